"""Faces of one colour each, whose age and gender BrightnessEstimator can be asked for and a test can work out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from facemtl.data.manifest import Manifest
from facemtl.data.packed_names import PackedNames

UNKNOWN = float("nan")


def colour(index: int) -> tuple[int, int, int]:
    return 37 * index % 256, 91 * index % 256, 7


def age(index: int) -> float:
    return colour(index)[0] / 2.55


def gender(index: int) -> int:
    return int(colour(index)[1] > colour(index)[0])


def write_colours(root: Path, ages: list[float], genders: list[int], *, size: tuple[int, int] = (24, 20)) -> Manifest:
    """Photographs with these labels; a suffix without loss, so that colours are what they are."""
    names = [f"{index:03d}.png" for index in range(len(ages))]
    root.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", size[::-1], colour(index)).save(root / name)
    return Manifest(
        root,
        PackedNames.pack(names),
        np.arange(len(ages), dtype=np.int64) // 2,
        np.array(ages, np.float32),
        np.array(genders, np.int8),
        PackedNames.pack([str(person) for person in range((len(ages) + 1) // 2)]),
    )
