"""The picture of statistics, seen by the numbers that are in it; and the statistics of real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemtl.data.manifest import read_manifest
from facemtl.data.statistics import manifest_statistics
from facemtl.data.statistics_figure import draw_statistics
from tests.conftest import SHARED
from tests.labelled_manifests import drawn_manifest, manifest_with

pytest.importorskip("matplotlib")


def test_the_picture_has_its_size_and_is_the_same_again(tmp_path: Path) -> None:
    statistics = manifest_statistics(drawn_manifest(0, 50, 2000))
    for name in ("one.png", "other.png"):
        draw_statistics(statistics, tmp_path / name, title="2,000 faces, $5 each", dpi=50)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (600, 200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "other.png"]


def test_the_callers_settings_do_not_matter_and_stay(tmp_path: Path) -> None:
    import matplotlib as mpl

    statistics = manifest_statistics(drawn_manifest(0, 50, 2000))
    draw_statistics(statistics, tmp_path / "plain.png", dpi=50)
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30.0}):
        draw_statistics(statistics, tmp_path / "dark.png", dpi=50)
        assert mpl.rcParams["axes.facecolor"] == "black"
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "dark.png").read_bytes()


def shares_of_colours(path: Path) -> dict[str, float]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    left = pixels[:, : pixels.shape[1] // 3].reshape(-1, 3)  # the ages
    colours = {"female": (200, 85, 61), "male": (51, 101, 138), "unknown": (184, 184, 184)}
    found = {name: int((abs(left - np.array(colour)).max(axis=1) < 8).sum()) for name, colour in colours.items()}
    return {name: count / sum(found.values()) for name, count in found.items()}


def test_bars_are_as_large_as_their_counts(tmp_path: Path) -> None:
    """Faces of one gender in each year of age, three to one: so are the pixels of their colours."""
    ages = np.repeat(np.arange(101), 4)
    genders = np.tile([0, 0, 0, 1], 101)
    draw_statistics(manifest_statistics(manifest_with(np.arange(404), ages, genders)), tmp_path / "a.png")
    shares = shares_of_colours(tmp_path / "a.png")
    assert shares["female"] == pytest.approx(0.75, abs=0.03)
    assert shares["unknown"] < 0.005  # the edges of letters


@pytest.mark.parametrize("labels", [([-1], [np.nan], [-1]), ([0], [100.0], [1]), ([0], [0.0], [-1])])
def test_one_face_can_be_drawn_whatever_is_known(tmp_path: Path, labels: tuple[list[float], ...]) -> None:
    draw_statistics(manifest_statistics(manifest_with(*labels)), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5000


def test_statistics_of_real_photographs(tmp_path: Path) -> None:
    labels = SHARED / "faces" / "lfw" / "labels.txt"
    if not labels.is_file():
        pytest.skip("the real photographs are not on this machine")
    statistics = manifest_statistics(read_manifest(labels))
    assert (statistics.num_faces, statistics.num_identities) == (2884, 423)
    assert (statistics.faces_per_identity(0), statistics.faces_per_identity(1)) == (4, 8)
    assert statistics.without_identity == 0
    draw_statistics(statistics, tmp_path / "lfw.png", title="LFW")
