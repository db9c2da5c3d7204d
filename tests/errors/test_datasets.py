from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facemtl.data.broken_images import BrokenImageError
from facemtl.data.datasets import FaceDataset
from facemtl.data.samples import FaceSample, collate_faces
from facemtl.data.transforms import random_flip
from tests.labelled_faces import manifest_of, write_faces

SIZE = (24, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_broken": "ignore"}, "FaceDataset: 'on_broken' must be \"skip\" or \"raise\", got 'ignore'"),
        ({"broken_limit": 1.5}, r"'broken_limit' must be a share in \[0, 1\], got 1\.5"),
        ({"size": (0, 20)}, r"'size' must be a positive height and width, got \(0, 20\)"),
        ({"max_pixels": 0}, r"'max_pixels' must lie in \[1, 178956970\], got 0"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, object], message: str) -> None:
    manifest = write_faces(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        FaceDataset(manifest, **options)


def test_no_faces_and_no_such_face(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there must be at least one face, got none"):
        FaceDataset(manifest_of(tmp_path, []))
    with pytest.raises(IndexError, match=r"'index' must lie in \[0, 2\), got 2"):
        FaceDataset(write_faces(tmp_path, 2), size=SIZE)[2]


def failure_of(loader: DataLoader[FaceSample]) -> str:
    """What a loop over ``loader`` raises, without its frames, which would keep the workers alive."""
    try:
        list(loader)
    except BrokenImageError as error:
        return str(error)
    return ""


def test_messages_name_row_and_file(tmp_path: Path) -> None:
    dataset = FaceDataset(write_faces(tmp_path, 4), size=SIZE)
    (tmp_path / "0002.jpg").unlink()
    with pytest.raises(
        BrokenImageError, match=r"FaceDataset: face 2, '.*0002\.jpg': cannot be read \(No such file.*on_broken=\"skip\""
    ):
        dataset[2]
    loader = DataLoader(dataset, batch_size=2, collate_fn=collate_faces, num_workers=1)
    assert re.search(r"face 2, '.*0002\.jpg'", failure_of(loader))  # out of a worker too
    larger = FaceDataset(dataset.manifest, size=(25, 20))
    with pytest.raises(
        BrokenImageError, match=r"face 0, '.*0000\.jpg': another size \(24 x 20 instead of 25 x 20\)\. Pass resize=True"
    ):
        larger[0]


def ask(dataset: FaceDataset, index: int, times: int) -> None:
    for _ in range(times):
        dataset[index]


def test_too_many_broken_images_end_the_run(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path, 8)
    (tmp_path / "0003.jpg").write_bytes(b"\xff\xd8\xff")
    dataset = FaceDataset(manifest, size=SIZE, on_broken="skip")
    ask(dataset, 3, 10)  # a tenth of a percent of the first 10,000
    ask(dataset, 0, 50)
    with pytest.raises(
        BrokenImageError, match=r"at most 0\.10% of those asked for, got 11 of 60; the last was face 3, '.*0003\.jpg'"
    ):
        dataset[3]


def test_many_faces_allow_more_broken_ones(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path, 8)
    (tmp_path / "0003.jpg").write_bytes(b"")
    dataset = FaceDataset(manifest, size=SIZE, on_broken="skip", broken_limit=0.001)
    dataset._broken.asked(1_000_000)
    ask(dataset, 3, 1001)  # 0.1 % of 1,001,000
    with pytest.raises(BrokenImageError, match="got 1002 of 1001001"):
        dataset[3]


def test_a_folder_that_is_gone_is_not_skipped(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path, 100)
    for name in manifest.filenames:
        (tmp_path / name).unlink()
    dataset = FaceDataset(manifest, size=SIZE, on_broken="skip", broken_limit=1.0)
    with pytest.raises(
        BrokenImageError, match=r"10 stand-ins in a row must not be broken as well, got that for face 5"
    ):
        dataset[5]


def test_the_only_face_of_its_age_has_no_stand_in(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path, 3)
    manifest.ages[:] = np.array([5.0, 50.0, np.nan])
    (tmp_path / "0001.jpg").write_bytes(b"")
    with pytest.raises(BrokenImageError, match="got that for face 1"):
        FaceDataset(manifest, size=SIZE, on_broken="skip")[1]


def test_flip_names_shape_and_probability() -> None:
    with pytest.raises(
        ValueError, match=r"'images' must have shape \(batch, channels, height, width\), got \(3, 8, 8\)"
    ):
        random_flip(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"'probability' must lie in \[0, 1\], got 2"):
        random_flip(torch.zeros(1, 3, 8, 8), probability=2.0)
