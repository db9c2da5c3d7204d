"""What the steps and their passes refuse, and what they say about it."""

from __future__ import annotations

import re

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.data.samples import FaceBatch
from facemtl.heads.margin import CosFace
from facemtl.networks.mtlface import MTLFace
from facemtl.training.passes import face_passes, number_of_passes
from facemtl.training.steps import discriminator_losses, encode_sources, generator_losses, recognition_losses
from tests.small_runs import DIMENSION, random_images, small_model

IMAGES = random_images(2)


@pytest.fixture(scope="module")
def model() -> MTLFace:
    return small_model().eval()


@pytest.mark.parametrize("group", [7, -1])
def test_a_group_that_there_is_not(model: MTLFace, group: int) -> None:
    assert model.discriminator is not None
    source = encode_sources(model, IMAGES).identity
    message = rf"generator_losses: 'groups' must .*num_groups.*got .*{group}"
    with pytest.raises(ValueError, match=message):
        generator_losses(model, model.discriminator, IMAGES, source, torch.tensor([0, group]))


def test_too_few_groups(model: MTLFace) -> None:
    assert model.discriminator is not None
    source = encode_sources(model, IMAGES).identity
    with pytest.raises(ShapeError, match="generator_losses: 'groups'"):
        generator_losses(model, model.discriminator, IMAGES, source, torch.tensor([0]))


def test_another_reduction(model: MTLFace) -> None:
    assert model.discriminator is not None
    source = encode_sources(model, IMAGES).identity
    message = "generator_losses: 'identity_reduction' must be 'mean' or 'sum', got 'max'."
    with pytest.raises(ValueError, match=re.escape(message)):
        generator_losses(
            model,
            model.discriminator,
            IMAGES,
            source,
            torch.tensor([0, 1]),
            identity_reduction="max",  # type: ignore[arg-type]
        )


def test_a_failed_step_leaves_the_networks_as_they_were(model: MTLFace) -> None:
    assert model.discriminator is not None
    model.train()
    source = encode_sources(model, IMAGES).identity
    with pytest.raises(ShapeError):
        generator_losses(model, model.discriminator, IMAGES[:, :, :5], source, torch.tensor([0, 1]))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.eval()


@pytest.mark.parametrize(
    ("identities", "ages", "message"),
    [([0, 5], [3.0, 4.0], "5"), ([0, 1], [3.0, 100.5], "100.5"), ([0, 1], [3.0, -1.0], "-1")],
)
def test_labels_out_of_range(model: MTLFace, identities: list[int], ages: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"must .*got .*{re.escape(message)}"):
        recognition_losses(model, CosFace(DIMENSION, 5), IMAGES, torch.tensor(identities), torch.tensor(ages))


@pytest.mark.parametrize("real", [IMAGES[:1], IMAGES[:, :, :16]])
def test_real_and_synthesized_faces_of_two_sizes(model: MTLFace, real: torch.Tensor) -> None:
    assert model.discriminator is not None
    three = torch.cat([IMAGES, IMAGES[:1]])  # with one real face as many as there are groups twice
    message = f"discriminator_losses: 'synthesized' must have the shape of real_faces, {tuple(real.shape)}, got (3, 3,"
    with pytest.raises(ShapeError, match=re.escape(message)):
        discriminator_losses(model.discriminator, real, three, torch.tensor([0, 1]))


def test_maps_of_other_sources(model: MTLFace) -> None:
    assert model.discriminator is not None
    source = encode_sources(model, IMAGES).identity[:1]  # would broadcast
    message = "generator_losses: 'source_identity' must have the shape of the synthesized faces' maps, (2, 32, 2, 2)"
    with pytest.raises(ShapeError, match=re.escape(message)):
        generator_losses(model, model.discriminator, IMAGES, source, torch.tensor([0, 1]))


@pytest.mark.parametrize(("share", "largest", "name"), [(0, 4, "share"), (-1, 4, "share"), (4, 0, "largest_pass")])
def test_numbers_of_faces_that_are_none(share: int, largest: int, name: str) -> None:
    wrong = share if name == "share" else largest
    with pytest.raises(ValueError, match=f"number_of_passes: '{name}' must be at least 1, got {wrong}"):
        number_of_passes(share, largest)


@pytest.mark.parametrize("passes", [4, 0, -3, 7])
def test_a_batch_that_does_not_divide(passes: int) -> None:
    numbers = torch.arange(6)
    batch = FaceBatch(torch.zeros(6, 3, 2, 2), numbers, numbers.float(), numbers, numbers)
    with pytest.raises(ValueError, match=f"face_passes: 'passes' must divide the batch of 6, got {passes}"):
        face_passes(batch, passes)
