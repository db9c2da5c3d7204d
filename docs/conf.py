"""Sphinx configuration: furo, MyST, napoleon; warnings are errors in nox."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import facemtl

sys.path.insert(0, str(Path(__file__).parent))

project = "facemtl"
author = "The facemtl authors"
copyright = "2026, The facemtl authors"
version = release = facemtl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"facemtl {release}"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
default_role = "any"
nitpicky = True
suppress_warnings = ["config.cache"]  # our typehints_formatter is a function, which cannot be cached

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
typehints_defaults = "comma"
always_document_param_types = False
doctest_test_doctest_blocks = ""  # docstrings are run by pytest, where their own names are in scope
doctest_global_setup = "import torch\nimport facemtl\n_ = torch.manual_seed(0)"
FOREIGN = {
    "python": (
        "https://docs.python.org/3",
        r"(typing|collections|contextlib|datetime|os|enum|pathlib)\.\w.*|Ellipsis|Path",
    ),
    "torch": ("https://docs.pytorch.org/docs/stable", r"(torch\.)?Tensor|torch\.\w.*"),
    "numpy": ("https://numpy.org/doc/stable", r"numpy\.\w.*|npt?\.\w.*"),
}


def reachable(url: str) -> bool:
    """Whether a foreign site answers; without network its names stay unlinked and are not missed."""
    try:
        with urllib.request.urlopen(f"{url}/objects.inv", timeout=5):
            return True
    except OSError:
        return False


intersphinx_mapping = {name: (url, None) for name, (url, _) in FOREIGN.items() if reachable(url)}
nitpick_ignore_regex = [
    (r"(py:)?(class|data|func|obj|any|meth|exc|attr)", names)
    for name, (_, names) in FOREIGN.items()
    if name not in intersphinx_mapping
]
# jaxtyping has no inventory to link to; fields of NamedTuples name its types.
nitpick_ignore_regex.append((r"py:class", r"(jaxtyping\.)?(Bool|Float|Integer|Shaped|UInt8)"))

nitpick_ignore_regex.append((r"py:class", r"ProblemKind"))  # a Literal, which fields of NamedTuples name, too


def typehints_formatter(annotation, config=None):
    """Show a shape annotation as it is written: ``Float[Tensor, "batch 3 height width"]``."""
    if getattr(annotation, "__module__", "") == "jaxtyping" and hasattr(annotation, "dim_str"):
        return f"``{annotation.__name__}``".replace("'", '"')
    return None


copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def resolve_public_name(app, environment, node, content):
    """Let `facemtl.AgeHead` link to the class where its page documents it, by its defining module."""
    room, _, path = node.get("reftarget", "").partition(".")
    name, dot, member = path.partition(".")
    thing = getattr(facemtl, name, None) if room == "facemtl" else None
    if not hasattr(thing, "__qualname__"):
        return None
    target = f"{thing.__module__}.{thing.__qualname__}{dot}{member}"
    domain = environment.get_domain("py")
    return domain.resolve_xref(environment, node["refdoc"], app.builder, node["reftype"], target, node, content)


def setup(app):
    app.connect("missing-reference", resolve_public_name)
