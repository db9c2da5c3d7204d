"""What holds of the losses whatever the batch and the weights, and how a share of a batch is cut into passes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.data.samples import FaceBatch
from facemtl.heads.margin import CosFace
from facemtl.networks.mtlface import MTLFace
from facemtl.training.passes import face_passes, mean_terms, number_of_passes, until_last
from facemtl.training.steps import (
    DiscriminatorLosses,
    discriminator_losses,
    encode_sources,
    generator_losses,
    recognition_losses,
)
from tests.small_runs import DIMENSION, random_images, small_model

BATCH = 4
IDENTITIES, AGES = torch.tensor([0, 4, 2, 2]), torch.tensor([3.0, float("nan"), 61.5, 40.0])
GROUPS = torch.tensor([0, 6, 3, 5])
weights = st.floats(0.0, 100.0)


@cache
def judges() -> tuple[MTLFace, CosFace]:
    """In eval mode and float64; nobody trains them."""
    torch.manual_seed(1)
    return small_model(dtype=torch.float64).eval(), CosFace(DIMENSION, 5, dtype=torch.float64)


@cache
def faces(seed: int) -> Tensor:
    return random_images(BATCH, seed=seed, dtype=torch.float64)


@given(age=weights, adversary=weights)
@settings(max_examples=8)
def test_the_recognition_total_is_the_weighted_sum(age: float, adversary: float) -> None:
    model, head = judges()
    with torch.no_grad():
        losses = recognition_losses(model, head, faces(0), IDENTITIES, AGES, age_weight=age, adversary_weight=adversary)
    wanted = losses.identity + age * losses.age + adversary * losses.adversary
    torch.testing.assert_close(losses.total, wanted)


@given(adversarial=weights, identity=weights, age=weights, reduction=st.sampled_from(["mean", "sum"]))
@settings(max_examples=8)
def test_the_synthesis_total_is_the_weighted_sum(
    adversarial: float, identity: float, age: float, reduction: str
) -> None:
    model, _ = judges()
    assert model.discriminator is not None
    with torch.no_grad():
        losses = generator_losses(
            model,
            model.discriminator,
            faces(1),
            encode_sources(model, faces(0)).identity,
            GROUPS,
            adversarial_weight=adversarial,
            identity_weight=identity,
            age_weight=age,
            identity_reduction=reduction,  # type: ignore[arg-type]
        )
    wanted = adversarial * losses.adversarial + identity * losses.identity + age * losses.age
    torch.testing.assert_close(losses.total, wanted)


@given(order=st.permutations(range(BATCH)))
@settings(max_examples=8)
def test_the_order_of_faces_does_not_matter(order: list[int]) -> None:
    model, head = judges()
    assert model.discriminator is not None
    with torch.no_grad():
        source = encode_sources(model, faces(0)).identity
        results = [
            (
                recognition_losses(model, head, faces(0)[rows], IDENTITIES[rows], AGES[rows]),
                discriminator_losses(model.discriminator, faces(0)[rows], faces(1)[rows], GROUPS[rows]),
                generator_losses(model, model.discriminator, faces(1)[rows], source[rows], GROUPS[rows]),
            )
            for rows in (list(range(BATCH)), order)
        ]
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-10)


def test_nobody_has_no_loss_and_no_gradient() -> None:
    model, _ = judges()
    assert model.discriminator is not None
    nobody, groups = faces(0)[:0].clone().requires_grad_(True), GROUPS[:0]
    source = encode_sources(model, faces(0)[:0]).identity
    for reduction in ("mean", "sum"):
        losses = generator_losses(
            model,
            model.discriminator,
            nobody,
            source,
            groups,
            identity_reduction=reduction,  # type: ignore[arg-type]
        )
        assert [loss.item() for loss in losses] == [0.0] * 4
        losses.total.backward()
    assert nobody.grad is not None
    assert discriminator_losses(model.discriminator, faces(0)[:0], nobody, groups).total.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_losses_are_float32_under_autocast(dtype: torch.dtype) -> None:
    model, head = small_model().eval(), CosFace(DIMENSION, 5)
    assert model.discriminator is not None
    images, other = faces(0).float(), faces(1).float()
    source = encode_sources(model, images).identity

    def losses() -> list[Tensor]:
        assert model.discriminator is not None
        return [
            *recognition_losses(model, head, images, IDENTITIES, AGES),
            *discriminator_losses(model.discriminator, images, other, GROUPS)[:1],
            *generator_losses(model, model.discriminator, other, source, GROUPS),
        ]

    with torch.no_grad():
        wanted = losses()
        with torch.autocast("cpu", dtype):
            for ours, exact in zip(losses(), wanted, strict=True):
                assert ours.dtype == torch.float32
                torch.testing.assert_close(ours, exact, rtol=0.1, atol=0.02)


@given(share=st.integers(1, 600), largest=st.integers(1, 600))
def test_passes_are_equal_small_enough_and_few(share: int, largest: int) -> None:
    passes = number_of_passes(share, largest)
    assert share % passes == 0
    assert share // passes <= largest
    for fewer in range(1, passes):
        assert share % fewer or share // fewer > largest


@given(size=st.integers(1, 6), passes=st.integers(1, 6))
def test_passes_cover_the_batch_in_order(size: int, passes: int) -> None:
    count = size * passes
    numbers = torch.arange(count)
    batch = FaceBatch(numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2), numbers * 2, numbers * 0.5, numbers % 2, numbers)
    parts = face_passes(batch, passes)
    assert [len(part.images) for part in parts] == [size] * passes
    for column, pieces in zip(batch, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), column)


@given(values=st.lists(st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_means_of_terms(values: list[list[float]]) -> None:
    terms = [DiscriminatorLosses(*torch.tensor(row, requires_grad=True)) for row in values]
    means = mean_terms("synthesis", terms)
    assert list(means) == ["synthesis/total", "synthesis/real_score", "synthesis/fake_score"]
    for mean, column in zip(means.values(), zip(*values, strict=True), strict=True):
        assert not mean.requires_grad
        torch.testing.assert_close(mean.item(), sum(column) / len(column), rtol=1e-5, atol=1e-5)


def test_one_process_has_nothing_to_hold_back() -> None:
    module, seen = nn.Linear(2, 1), []
    for item, context in until_last(["a", "b", "c"], module):
        with context:
            module(torch.ones(1, 2)).sum().backward()
        seen.append(item)
    assert seen == ["a", "b", "c"]
    assert module.weight.grad is not None
    assert module.weight.grad.tolist() == [[3.0, 3.0]]
