"""The smallest MTLFace and the smallest run that have all parts, for tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from facemtl.networks.mtlface import MTLFace
from facemtl.training.presets import quick
from facemtl.training.processes import Processes
from facemtl.training.settings import (
    ComputeSettings,
    ModelSettings,
    RecognitionSettings,
    SynthesisSettings,
    TrainingSettings,
)

ALONE = Processes(0, 0, 1, torch.device("cpu"))
SIDE = 32
DIMENSION = 16


def small_model(*, seed: int = 0, dtype: torch.dtype | None = None) -> MTLFace:
    """In train mode; its norms and spectral norms have seen a few batches, so that eval mode is not the identity."""
    torch.manual_seed(seed)
    model = MTLFace.paper2021(depth=18, width=4, image_size=SIDE, embedding_dimension=DIMENSION, dtype=dtype)
    with torch.no_grad():
        for number in range(3):
            images = random_images(4, seed=100 + number, dtype=dtype)
            model(images)
            encoded = model.encode(images)
            groups = torch.tensor([0, 2, 4, 6])
            aged = model.generator(encoded.identity, encoded.levels, images, groups)  # type: ignore[misc]
            model.discriminator(aged, groups)  # type: ignore[misc]
    return model


def random_images(count: int, *, seed: int = 0, dtype: torch.dtype | None = None) -> torch.Tensor:
    """In [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator, dtype=dtype or torch.float32) * 2 - 1


def small_settings(output: Path, **changes: Any) -> TrainingSettings:
    """Of a run on the bundled faces; ``changes`` replace whole fields of the settings."""
    settings = quick()
    return replace(
        settings,
        **{
            "output": output,
            "faces": replace(settings.faces, held_out_people=4, image_size=SIDE),
            "model": ModelSettings(depth=18, width=4, embedding_dimension=DIMENSION),
            "recognition": RecognitionSettings(steps=4, global_batch=8, warmup=2, milestones=(3,), scale=16.0),
            "synthesis": SynthesisSettings(steps=4, global_batch=8, discriminator_rate=2e-4),
            "compute": ComputeSettings(device="cpu"),
            **changes,
        },
    )
