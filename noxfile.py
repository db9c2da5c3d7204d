"""One question a session: `nox -l` lists them, `nox -s tests` answers the first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]

# torch and its libraries fill gigabytes: the sessions that need them share one environment, which nox itself cannot do.
SHARED = Path(".nox", "shared").absolute()
BIN = SHARED / ("Scripts" if os.name == "nt" else "bin")
WORKERS = ("-n", "auto")


def share_environment(session: nox.Session, *extras: str) -> None:
    """Make the shared environment if there is none, and install the project with ``extras`` into it."""
    if not BIN.is_dir():
        session.run(sys.executable, "-m", "venv", str(SHARED), external=True)
    run(session, "python", "-m", "pip", "install", "--quiet", "-e", f".[{','.join(extras)}]")


def run(session: nox.Session, command: str, *arguments: str) -> None:
    """Run a command of the shared environment."""
    path = os.pathsep.join((str(BIN), os.environ.get("PATH", "")))
    session.run(str(BIN / command), *arguments, external=True, env={"PATH": path, "VIRTUAL_ENV": str(SHARED)})


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Does it work? All tests but those that need a GPU, with coverage; or those named after `--`."""
    share_environment(session, "test")
    session.env["HYPOTHESIS_PROFILE"] = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
    if session.posargs:
        run(session, "pytest", *session.posargs)
        return
    run(session, "coverage", "erase")
    # jaxtyping's hook checks every annotated shape, but breaks torch.compile and answers bad input before our own
    # checks do: contracts and properties run under it, all the rest without.
    hook = "--jaxtyping-packages=facemtl,beartype.beartype"
    run(session, "pytest", *WORKERS, "-m", "typed and not gpu", hook, "--cov", "--cov-report=", "--cov-fail-under=0")
    run(session, "pytest", *WORKERS, "-m", "not typed and not gpu", "--cov", "--cov-append", "--cov-report=term")


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Is it in the house's style? Formatting, lint rules and the import contracts."""
    session.install("ruff>=0.12", "import-linter>=2.3")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", env={"PYTHONPATH": "."})


@nox.session(python=False)
def types(session: nox.Session) -> None:
    """Do the types hold? mypy, strict."""
    share_environment(session, "dev")
    run(session, "mypy")


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Do the docs build without a warning? Sphinx, nitpicky."""
    share_environment(session, "docs")
    run(session, "sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=False)
def doctest(session: nox.Session) -> None:
    """Do the examples run? Those in docstrings, in the docs pages and in README."""
    share_environment(session, "docs", "test")
    run(session, "pytest", *WORKERS, "--doctest-modules", "facemtl")
    run(session, "sphinx-build", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


@nox.session(python=False)
def benchmarks(session: nox.Session) -> None:
    """How fast is it? Every script of benchmarks/, or those named after `--`."""
    share_environment(session, "test")
    for name in session.posargs or sorted(path.name for path in Path("benchmarks").glob("[!_]*.py")):
        run(session, "python", f"benchmarks/{name.removeprefix('benchmarks/')}")


@nox.session(python=False)
def gpu(session: nox.Session) -> None:
    """Does it work on a GPU? The tests marked `gpu`; fails where there is none."""
    share_environment(session, "test")
    run(session, "python", "-c", "import torch; assert torch.cuda.is_available(), 'this machine has no CUDA device'")
    run(session, "pytest", "-m", "gpu", *session.posargs)
