from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facemtl.training.held_out import held_out_figures
from facemtl.training.verification_pairs import draw_pairs
from tests.held_out_faces import PlainFaces, random_faces, reading_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "'batch_size' must be at least 1, got 0"),
        ({"pairs": 9}, "'pairs' must be at least 10, got 9"),
        ({"most_faces": 0}, "'most_faces' must be at least 1, got 0"),
        ({"synthesized_faces": -1}, "'synthesized_faces' must be at least 0, got -1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    faces = PlainFaces(random_faces(20), np.arange(20) // 5, np.full(20, 30.0))
    with pytest.raises(ValueError, match=f"held_out_figures: {message}"):
        held_out_figures(reading_model(), faces, **options)


def test_an_empty_data_set() -> None:
    with pytest.raises(ValueError, match="'dataset' must hold at least one face, got none"):
        held_out_figures(reading_model(), PlainFaces(random_faces(0), [], []))


def test_too_few_pairs_are_counted() -> None:
    everybody_once = PlainFaces(random_faces(20), np.arange(20), np.full(20, 30.0))
    with pytest.raises(ValueError, match="at least 10 pairs of one person .* got 0 and 190 from 20 faces of 20 people"):
        held_out_figures(reading_model(), everybody_once)
    with pytest.raises(ValueError, match="got 45 and 0 from 10 faces of 1 people"):
        draw_pairs(np.zeros(10, int), pairs=10, seed=0)
    with pytest.raises(ValueError, match="got 0 and 0 from 0 faces of 0 people"):
        draw_pairs(np.full(10, -1), pairs=10, seed=0)


def test_all_images_broken() -> None:
    faces = PlainFaces(random_faces(3), [0, 0, 1], [3.0, 4.0, 5.0], stand_ins={0: 1, 1: 2, 2: 0})
    with pytest.raises(ValueError, match="all 3 faces of 'dataset' are broken images"):
        held_out_figures(reading_model(), faces)


def test_a_model_that_diverged() -> None:
    faces = PlainFaces(random_faces(20), np.arange(20) // 5, np.full(20, 30.0))
    model = reading_model()
    nn.init.constant_(model.embedding.norm.weight, float("nan"))
    with pytest.raises(ValueError, match="finite embeddings and ages, got others for 20 of 20 faces"):
        held_out_figures(model, faces)
    assert model.training

    model = reading_model()
    model.generator.all_groups = lambda identity, levels, images: torch.full((len(images), 7, 3, 16, 16), float("nan"))
    with pytest.raises(ValueError, match="'model' must give finite faces, got NaN"):
        held_out_figures(model, faces)
    assert model.training
