"""Profiles, threads, and the split between runs with and without jaxtyping's import hook."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("FACEMTL_SHARED", HERE.parent.parent / "shared"))

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_QUIET)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_QUIET, database=None
)
settings.register_profile("nightly", max_examples=500, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Workers of pytest-xdist share the cores: one thread each is both faster and repeatable.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs under jaxtyping's import hook: contracts and properties that compile nothing."""
    for item in items:
        shelf = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if shelf in ("contract", "properties") and item.get_closest_marker("compiled") is None:
            item.add_marker(pytest.mark.typed)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(20210301)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator for test inputs."""
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    """The folder of reference values from the authors' modules; skips where it is absent."""
    folder = SHARED / "parity"
    if not (folder / "reference.npz").is_file():
        pytest.skip("the authors' reference values are not on this machine")
    return folder
