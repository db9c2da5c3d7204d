"""The model that a run begins with."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from facemtl.layers.embedding import EmbeddingHead
from facemtl.networks.iresnet import STRIDE, IRBackbone
from facemtl.networks.mtlface import MTLFace
from facemtl.training.settings import TrainingSettings


def starting_model(settings: TrainingSettings) -> MTLFace:
    """Build the model that the settings speak of, or load the one to start from.

    Seeds torch's generators: the weights, and what is drawn next, follow from the settings alone.

    Args:
        settings: Of the run.

    Raises:
        ValueError: If synthesis alone starts from nothing, or the model in the folder is not that of the settings.

    Example:
        >>> from facemtl.training.presets import quick
        >>> starting_model(quick()).embedding.dimension
        128
    """
    torch.manual_seed(settings.seed)
    if settings.start_from is not None:
        return _loaded(settings, settings.start_from)
    if settings.phases == "synthesis":
        raise ValueError(
            "build_run: synthesis alone must start from a trained recogniser, got start_from=None: faces aged before a "
            "random encoder learn nothing. Name its folder, or train recognition first."
        )
    options = settings.model
    build = MTLFace.paper2021 if options.preset == "paper2021" else MTLFace.code2021
    return build(
        depth=options.depth,
        width=options.width,
        image_size=settings.faces.image_size,
        embedding_dimension=options.embedding_dimension,
        discriminator_preset=options.discriminator_preset or options.preset,
    )


def _loaded(settings: TrainingSettings, folder: Path) -> MTLFace:
    """The model in a folder, if the settings speak of that one: checkpoints say what the settings say."""
    model = MTLFace.from_pretrained(folder)
    embedding, encoder = cast(EmbeddingHead, model.embedding), cast(IRBackbone, model.encoder)
    for name, found, wanted in (
        ("model.embedding_dimension", embedding.dimension, settings.model.embedding_dimension),
        ("model.width", encoder.level_channels[0], settings.model.width),
        ("faces.image_size", STRIDE * embedding.map_size[0], settings.faces.image_size),
    ):
        if found != wanted:
            raise ValueError(
                f"build_run: {name} must be that of the model to start from, {found}, got {wanted}. Set it, or name "
                f"another folder than {str(folder)!r}."
            )
    return model
