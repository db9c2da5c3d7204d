"""Small pictures, whole and broken, for tests that read files."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff")
LANDMARKS = "30 40 60 41 45 55 33 70 58 71"
"""Five points of a sound face in a picture of 90 by 110 pixels."""


def smooth(height: int = 110, width: int = 90, seed: int = 0) -> np.ndarray:
    """``(height, width, 3)`` uint8 with soft gradients, which every format keeps well."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, seed: int = 0, height: int = 110, width: int = 90) -> Path:
    """Write a small picture in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth(height, width, seed)).save(path)
    return path


def photographs(folder: Path, count: int, suffix: str = ".png") -> Path:
    """A folder of small pictures in two subfolders, and beside it a landmark list that names them all."""
    names = [f"{'ab'[index % 2]}/{index:03d}{suffix}" for index in range(count)]
    for index, name in enumerate(names):
        save(folder / name, index)
    (folder.parent / "landmarks.txt").write_text("".join(f"{name} {LANDMARKS}\n" for name in names))
    return folder


def broken(data: bytes, generator: random.Random) -> tuple[str, bytes]:
    """Harm a file in one of the ways that files are harmed; returns how, and the bytes."""
    kind = generator.choice(("whole", "truncated", "flipped", "flipped much", "zeroed", "doubled", "spliced", "head"))
    harmed = bytearray(data)
    start = generator.randrange(len(data))
    if kind == "truncated":
        harmed = harmed[:start]
    elif kind in ("flipped", "flipped much"):
        for _ in range(1 if kind == "flipped" else 200):
            harmed[generator.randrange(len(harmed))] ^= 1 << generator.randrange(8)
    elif kind == "zeroed":
        length = min(generator.randrange(1, 400), len(data) - start)
        harmed[start : start + length] = bytes(length)
    elif kind == "doubled":
        harmed += data
    elif kind == "spliced":
        harmed[start:start] = generator.randbytes(generator.randrange(1, 2000))
    elif kind == "head":  # sizes, counts and offsets stand at the beginning
        for _ in range(4):
            harmed[generator.randrange(min(64, len(harmed)))] = generator.randrange(256)
    return kind, bytes(harmed)
