"""How fast do face crops become batches that a network can take, against the released code's loader?

The released loader opens each image with Pillow, converts it to RGB and sends it through torchvision's
RandomHorizontalFlip, Resize(112), ToTensor and Normalize(0.5), then collates floats. Ours decodes a batch into one
buffer of bytes, and flips and scales the batch. Both sides end with a float batch in [-1, 1] on the CPU, one thread a
process; the last lines leave the scaling out, as where the device does it.

    python benchmarks/loading.py [--images 1024] [--rounds 7] [--faces FOLDER_OF_112x112_JPEGS]

Without ``--faces`` the images are procedural photographs, blurred and paled until a JPEG of quality 95 has the bytes
that one of a real aligned face has (4.6 KB): what a decoder takes depends on them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import io as torchvision_io
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks._timing import compare
from facemtl import FaceDataset, ShuffledSampler, collate_faces, random_flip, to_model_input
from tests.photographs import procedural_photograph

BATCH = 64


class ReleasedFaces(Dataset[Tensor]):
    """Faces as the released code loads them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.Resize(112),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


class Endless:
    """Batches without an end, from one loader and its workers."""

    def __init__(self, dataset: Dataset[Any], num_faces: int, workers: int, collate: Callable[..., Any] | None) -> None:
        sampler = ShuffledSampler(num_faces, global_batch_size=BATCH)
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            prefetch_factor=2 if workers else None,
        )
        self.batches: Iterator[Any] = iter(loader)


def to_input(batch: Any, generator: torch.Generator) -> Tensor:
    return to_model_input(random_flip(batch.images, generator=generator))


def write_images(folder: Path, count: int) -> list[Path]:
    paths = []
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        image = Image.fromarray(procedural_photograph(112, 112, index).movedim(0, -1).numpy())
        image = ImageEnhance.Color(image.filter(ImageFilter.GaussianBlur(1.0))).enhance(0.3)
        image.save(path, quality=95)
        paths.append(path)
    return paths


def decoders(paths: list[Path], rounds: int) -> None:
    import simplejpeg

    files = [path.read_bytes() for path in paths[:128]]
    row = np.empty((112, 112, 3), np.uint8)

    def pillow() -> None:
        for data in files:
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def torchvision() -> None:
        for data in files:
            torchvision_io.decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=torchvision_io.ImageReadMode.RGB
            )

    def simple() -> None:
        for data in files:
            simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=row)

    for name, baseline in (("Pillow", pillow), ("torchvision", torchvision)):
        result = compare(baseline, simple, rounds=rounds)
        microseconds = [seconds / len(files) * 1e6 for seconds in (result.baseline_seconds, result.candidate_seconds)]
        print(f"decode alone, simplejpeg against {name}: {result}; {microseconds[0]:.0f} -> {microseconds[1]:.0f} us")


def loaders(paths: list[Path], rounds: int, workers: int) -> None:
    """Whole batches: with workers, the side that does not run has filled its queue and sleeps."""
    count, root = len(paths), paths[0].parent
    manifest = SimpleNamespace(
        root=root,
        filenames=[path.name for path in paths],
        identities=np.arange(count),
        ages=np.full(count, 30, np.float32),
        genders=np.zeros(count, np.int8),
    )
    released = Endless(ReleasedFaces(paths), count, workers, None)
    ours = Endless(FaceDataset(manifest), count, workers, collate_faces)
    generator = torch.Generator().manual_seed(0)
    steps = 64 if workers else 16  # many more than wait in the queues
    name = f"{workers} workers" if workers else "in process"

    def baseline() -> None:
        for _ in islice(released.batches, steps):
            pass

    def candidate() -> None:
        for batch in islice(ours.batches, steps):
            to_input(batch, generator)

    def bytes_only() -> None:
        for _ in islice(ours.batches, steps):
            pass

    for label, side in (("float batches", candidate), ("uint8 batches", bytes_only)):
        result = compare(baseline, side, rounds=rounds)
        microseconds = [s / steps / BATCH * 1e6 for s in (result.baseline_seconds, result.candidate_seconds)]
        print(f"{name}, {label}: {result}; {microseconds[0]:.0f} -> {microseconds[1]:.0f} us an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--faces", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.faces is not None:
            paths = sorted(arguments.faces.glob("*.jpg"))[: arguments.images]
        else:
            paths = write_images(Path(folder), arguments.images)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        print(f"{len(paths)} images of 112 x 112, {size:,.0f} bytes each; torch {torch.__version__}")
        decoders(paths, arguments.rounds)
        for workers in (0, 2):
            loaders(paths, arguments.rounds, workers)


if __name__ == "__main__":
    main()
