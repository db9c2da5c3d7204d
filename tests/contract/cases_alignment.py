from __future__ import annotations

from functools import partial
from typing import Any

import torch

from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from tests.cases import Case

TEMPLATE = FaceTemplate.arcface((14, 12))


def landmarks(generator: torch.Generator, faces: int) -> torch.Tensor:
    scale = 1.2 + 2 * torch.rand(faces, 1, 1, generator=generator)
    return (scale * TEMPLATE.tensor() + 3 + torch.randn(faces, 5, 2, generator=generator) / 8).float()


def floats(generator: torch.Generator, batch: int) -> tuple[Any, ...]:
    images = 2 * torch.rand(batch, 3, 40, 36, generator=generator) - 1
    return images.requires_grad_(), landmarks(generator, batch)


def pixels(generator: torch.Generator, batch: int) -> tuple[Any, ...]:
    images = torch.randint(256, (batch, 3, 40, 36), generator=generator, dtype=torch.uint8)
    return images, landmarks(generator, batch)


def make(**options: Any) -> FaceAligner:
    return FaceAligner(TEMPLATE, **options)


def case(name: str, inputs: Any, **options: Any) -> Case:
    return Case(f"FaceAligner {name}", partial(make, **options), inputs, factory_kwargs=False, autocast_tolerance=1e-6)


CASES = [
    case("of floats", floats),
    case("of floats, bilinear", floats, antialias=False, padding="border"),
    case("of pixels", pixels),
    case("of pixels, bilinear", pixels, antialias=False, backend="torch"),  # OpenCV rounds to 1/255, compiled code not
    case("of pixels, to pixels", pixels, output="uint8"),
    case("like OpenCV 4", pixels, cv2_compat=True),
]
