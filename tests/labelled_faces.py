"""Manifests of small pictures on disk, for tests of data sets; importable, so that worker processes can have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests import pictures


@dataclass(frozen=True)
class PlainManifest:
    """Names and labels, no more than a data set asks for."""

    root: Path
    filenames: list[str]
    identities: npt.NDArray[np.int64]
    ages: npt.NDArray[np.float32]
    genders: npt.NDArray[np.int8]


def write_faces(root: Path, count: int, *, suffix: str = ".jpg", size: tuple[int, int] = (24, 20)) -> PlainManifest:
    """Smooth pictures whose labels follow from their numbers."""
    names = [f"{index:04d}{suffix}" for index in range(count)]
    for index, name in enumerate(names):
        pictures.save(root / name, index, *size)
    return manifest_of(root, names)


def manifest_of(root: Path, names: list[str]) -> PlainManifest:
    numbers = np.arange(len(names))
    return PlainManifest(
        root, names, numbers // 3, (numbers * 7 % 100).astype(np.float32), (numbers % 2).astype(np.int8)
    )


def pillow(path: Path) -> npt.NDArray[np.uint8]:
    """``(3, height, width)`` as Pillow decodes it."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
