from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from facemtl.data import bundled_faces
from facemtl.data.bundled import BUNDLED_FOLDER
from facemtl.data.manifest import read_manifest
from facemtl.data.photographs import read_photograph
from facemtl.data.synthetic.bundle import BUNDLE


def test_every_listed_face_is_there_and_loads() -> None:
    manifest = read_manifest(BUNDLED_FOLDER / "manifest.csv")
    faces = bundled_faces()
    assert len(faces) == len(manifest) == BUNDLE.num_identities * BUNDLE.faces_per_identity == 2048
    assert manifest.num_identities == 256
    assert int((manifest.genders[::8] == 0).sum()) == 131
    for index in range(0, 2048, 97):
        sample = faces[index]
        assert sample.image.shape == (3, 112, 112)
        assert (sample.identity, sample.index) == (index // 8, index)
        assert 20 < sample.image.float().mean() < 235


def test_ages_are_spread_over_every_person() -> None:
    ages = read_manifest(BUNDLED_FOLDER / "manifest.csv", check_files=False).ages.reshape(256, 8)
    assert (np.diff(ages, axis=1) > 0).all()
    assert (np.abs((ages - 3) / 10 - np.arange(8) - 0.5) <= 0.5005).all()  # ages are written to four digits


def test_the_package_stays_small_and_says_whose_it_is() -> None:
    files = [path for path in BUNDLED_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert "CC0 1.0" in (BUNDLED_FOLDER / "LICENSE.txt").read_text()


def test_rendering_again_gives_the_same_faces() -> None:
    """The numbers exactly; the pixels as nearly as processors and JPEG agree."""
    indices = [0, 9, 1234, 2047]
    faces = BUNDLE.faces()
    truth, labels = faces.truth(indices), faces.labels(indices)
    with open(BUNDLED_FOLDER / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for at, index in enumerate(indices):
        row = rows[index]
        shipped = read_photograph(BUNDLED_FOLDER / row["filename"]).float()
        difference = (shipped - truth.images[at].float()).abs()
        assert difference.mean() < 4.0, f"face {index}: python -m facemtl.data.synthetic.bundle must be run again"
        assert int(row["identity"]) == int(labels.identities[at])
        assert float(row["age"]) == float(f"{float(labels.ages[at]):.4g}")
        listed = torch.tensor([float(value) for name, value in row.items() if name.endswith(("_x", "_y"))])
        assert torch.allclose(listed.view(5, 2), truth.landmarks[at], atol=0.02)


def test_rendering_again_gives_the_same_files(tmp_path: Path) -> None:
    """On one machine, byte for byte; the first two people stand for all."""
    from dataclasses import replace

    from facemtl.data.synthetic.folder import synthesize_folder

    settings = replace(BUNDLE, num_identities=2)
    for name in ("one", "two"):
        synthesize_folder(tmp_path / name, settings)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 2 * 8 + 4
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
