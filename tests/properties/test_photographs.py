from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from facemtl.data.photographs import PhotographError, read_photograph
from tests import pictures


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(
    orientation=st.integers(0, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    suffix=st.sampled_from((".png", ".jpg", ".tiff", ".webp")),
    seed=st.integers(0, 99),
)
def test_orientation_is_what_pillow_makes_of_it(
    folder: Path, orientation: int, height: int, width: int, suffix: str, seed: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / f"turned{suffix}"
    Image.fromarray(pictures.smooth(height, width, seed)).save(path, exif=exif)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_photograph(path).permute(1, 2, 0).numpy(), wanted)


@given(seed=st.integers(0, 10**6), suffix=st.sampled_from(pictures.SUFFIXES))
def test_harmed_files_are_photographs_or_photograph_errors(folder: Path, seed: int, suffix: str) -> None:
    whole = pictures.save(folder / f"whole{suffix}", seed % 7, 24, 30).read_bytes()
    path = folder / f"harmed{suffix}"
    kind, data = pictures.broken(whole, random.Random(seed))
    path.write_bytes(data)
    try:
        pixels = read_photograph(path, max_pixels=10**6)
    except PhotographError:
        assert kind != "whole"
    else:
        assert pixels.shape[0] == 3
        assert pixels.dtype.itemsize == 1


@given(data=st.binary(max_size=400))
def test_bytes_that_are_no_image_are_refused(folder: Path, data: bytes) -> None:
    path = folder / "any.jpg"
    path.write_bytes(data)
    with pytest.raises(PhotographError):
        read_photograph(path)
