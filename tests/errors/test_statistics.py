from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facemtl.data.statistics import manifest_statistics
from facemtl.data.statistics_figure import draw_statistics
from tests.labelled_manifests import drawn_manifest


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (([], [], []), "'ages' must have shape .* at least one face, got shape"),
        (([0], [101.0], [1]), r"'ages' must lie in \[0, 100\] years .* got 101 at index 0"),
        (([0, 0], [3.0, np.inf], [1, 1]), r"'ages' must lie in .* got inf at index 1"),
        (([0], [3.0], [2]), r"'genders' must be in \[-1, 1\] .* got 2 at index 0"),
        (([-2], [3.0], [1]), "'identities' must be at least -1 .* got -2 at index 0"),
        (([0, 0], [3.0], [1]), "'identities' must have 1 labels as the others do, got 2"),
    ],
)
def test_labels_are_checked(labels: tuple[list[float], ...], message: str) -> None:
    identities, ages, genders = labels
    manifest = SimpleNamespace(
        identities=np.array(identities, np.int64), ages=np.array(ages, np.float32), genders=np.array(genders, np.int8)
    )
    with pytest.raises(ValueError, match=f"manifest_statistics: {message}"):
        manifest_statistics(manifest)


def test_options_are_checked(tmp_path: Path) -> None:
    statistics = manifest_statistics(drawn_manifest(0, 3, 30))
    with pytest.raises(ValueError, match=r"draw_statistics: 'path' must end in '\.png', got .*a\.pdf"):
        draw_statistics(statistics, tmp_path / "a.pdf")
    with pytest.raises(ValueError, match=r"'dpi' must lie in \[10, 1200\], got 5"):
        draw_statistics(statistics, tmp_path / "a.png", dpi=5)
    with pytest.raises(ValueError, match=r"'share' must lie in \[0, 1\], got 1.5"):
        statistics.faces_per_identity(1.5)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib. Install it with: pip install 'facemtl\[data\]'"):
        draw_statistics(manifest_statistics(drawn_manifest(0, 3, 30)), tmp_path / "a.png")
