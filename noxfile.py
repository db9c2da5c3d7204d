"""One question a session: `nox -l` lists them, `nox -s tests` answers the first."""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests"]

# torch is large: the sessions that need it share one environment, whichever of them comes first makes it.
SHARED_ENVIRONMENT = ".nox/shared"
WORKERS = ("-n", "auto")


def install_project(session: nox.Session, *extras: str) -> None:
    session.install("-e", f".[{','.join(extras)}]")


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def tests(session: nox.Session) -> None:
    """Does it work? All tests but those that need a GPU, with coverage."""
    install_project(session, "test")
    session.env["HYPOTHESIS_PROFILE"] = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("coverage", "erase")
    # jaxtyping's hook checks every annotated shape, but breaks torch.compile and answers bad input before our own
    # checks do: contracts and properties run under it, all the rest without.
    session.run(
        "pytest",
        *WORKERS,
        "-m",
        "typed and not gpu",
        "--jaxtyping-packages=facemtl,beartype.beartype",
        "--cov",
        "--cov-report=",
    )
    session.run(
        "pytest",
        *WORKERS,
        "-m",
        "not typed and not gpu",
        "tests",
        "--cov",
        "--cov-append",
        "--cov-report=term",
    )


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Is it in the house's style? Formatting, lint rules and the import contracts."""
    session.install("ruff>=0.12", "import-linter>=2.3")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", env={"PYTHONPATH": "."})


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def types(session: nox.Session) -> None:
    """Do the types hold? mypy, strict."""
    install_project(session)
    session.install("mypy>=1.15")
    session.run("mypy")


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def docs(session: nox.Session) -> None:
    """Do the docs build without a warning? Sphinx, nitpicky."""
    install_project(session, "docs")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def doctest(session: nox.Session) -> None:
    """Do the examples run? Those in docstrings, in the docs pages and in README."""
    install_project(session, "docs", "test")
    session.run("pytest", "--doctest-modules", "facemtl", *WORKERS)
    session.run("sphinx-build", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def benchmarks(session: nox.Session) -> None:
    """How fast is it? Every script of benchmarks/, or those named after `--`."""
    install_project(session, "test")
    names = session.posargs or sorted(
        name for name in os.listdir("benchmarks") if name.endswith(".py") and not name.startswith("_")
    )
    for name in names:
        session.run("python", f"benchmarks/{name.removeprefix('benchmarks/')}")


@nox.session(venv_location=SHARED_ENVIRONMENT, reuse_venv=True)
def gpu(session: nox.Session) -> None:
    """Does it work on a GPU? The tests marked `gpu`; fails where there is none."""
    install_project(session, "test")
    session.run("pytest", "-m", "gpu", *session.posargs)
