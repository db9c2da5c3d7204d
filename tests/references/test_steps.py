"""The losses of the steps against the formulas written out in float64, one face or one network at a time."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from facemtl.heads.margin import CosFace
from facemtl.losses.adversarial import HingeAdversarialLoss
from facemtl.losses.age import AgeCrossEntropyLoss
from facemtl.networks.mtlface import MTLFace
from facemtl.training.steps import discriminator_losses, encode_sources, generator_losses, recognition_losses
from tests.small_runs import DIMENSION, random_images, small_model

PEOPLE = 5
AGES = torch.tensor([3.0, 10.0, float("nan"), 61.5, float("nan"), 40.2], dtype=torch.float64)
GROUPS = (0, 0, None, 6, None, 4)  # an age of exactly 10 is still in the first
IDENTITIES = torch.tensor([0, 4, 2, 2, 1, 4])
IMAGES = random_images(6, dtype=torch.float64)
TARGETS = torch.tensor([0, 6, 3, 3, 1, 5])
EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture
def model() -> MTLFace:
    return small_model(dtype=torch.float64).eval()


@pytest.fixture
def head() -> CosFace:
    head = CosFace(DIMENSION, PEOPLE, dtype=torch.float64)
    nn.init.normal_(head.weight)
    return head


def cosface(embeddings: Tensor, weight: Tensor) -> Tensor:
    """CosFace with s = 64 and m = 0.35, a face at a time."""
    losses = []
    for embedding, person in zip(embeddings, IDENTITIES.tolist(), strict=True):
        cosines = [embedding @ row / (embedding.norm() * row.norm()) for row in weight]
        logits = [64 * (cosine - 0.35 * (number == person)) for number, cosine in enumerate(cosines)]
        losses.append(torch.logsumexp(torch.stack(logits), 0) - logits[person])
    return torch.stack(losses).mean()


def age_estimation(age_logits: Tensor, group_logits: Tensor) -> Tensor:
    """``(DEX − age)² + CE(group)`` over the faces whose age is known."""
    losses = []
    for row, (age, group) in enumerate(zip(AGES.tolist(), GROUPS, strict=True)):
        if group is None:
            continue
        chances = age_logits[row].exp() / age_logits[row].exp().sum()
        expected = sum(year * chance for year, chance in enumerate(chances))
        losses.append((expected - age) ** 2 - (group_logits[row] - group_logits[row].logsumexp(0))[group])
    return torch.stack(losses).mean()


def test_recognition_is_the_formula_and_its_gradients_are_reversed_once(model: MTLFace, head: CosFace) -> None:
    encoded = model.encode(IMAGES)
    identity = cosface(model.embedding(encoded.identity), head.weight)
    age = age_estimation(*model.age_head(encoded.age))
    assert model.adversary is not None
    adversary = age_estimation(*model.adversary(encoded.identity))  # no reversal here: the signs below are by hand

    losses = recognition_losses(model, head, IMAGES, IDENTITIES, AGES, age_weight=0.3, adversary_weight=0.7)
    for ours, by_hand in zip(losses, (identity + 0.3 * age + 0.7 * adversary, identity, age, adversary), strict=True):
        torch.testing.assert_close(ours, by_hand, **EXACT)
    losses.total.backward()

    encoder = list(model.encoder.parameters()) + list(model.decomposition.parameters())
    parts = [
        torch.autograd.grad(loss, encoder, retain_graph=True, allow_unused=True) for loss in (identity, age, adversary)
    ]
    for parameter, *gradients in zip(encoder, *parts, strict=True):
        by_identity, by_age, by_adversary = (0.0 if part is None else part for part in gradients)
        wanted = by_identity + 0.3 * by_age - 0.7 * by_adversary
        assert isinstance(wanted, Tensor)
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=1e-9)
    adversaries = list(model.adversary.parameters())
    for parameter, wanted in zip(adversaries, torch.autograd.grad(adversary, adversaries), strict=True):
        torch.testing.assert_close(parameter.grad, 0.7 * wanted, rtol=1e-6, atol=1e-9)
    assert all(parameter.grad is not None for parameter in head.parameters())
    for part in (model.generator, model.discriminator):
        assert part is not None
        assert all(parameter.grad is None for parameter in part.parameters())


def test_recognition_by_default_has_the_weights_of_the_supplement(model: MTLFace, head: CosFace) -> None:
    losses = recognition_losses(model, head, IMAGES, IDENTITIES, AGES)
    by_hand = losses.identity + 0.001 * losses.age + 0.002 * losses.adversary
    torch.testing.assert_close(losses.total, by_hand, **EXACT)


def test_faces_of_unknown_age_change_nothing_but_the_identity(model: MTLFace, head: CosFace) -> None:
    known = ~AGES.isnan()
    whole = recognition_losses(model, head, IMAGES, IDENTITIES, AGES)
    part = recognition_losses(model, head, IMAGES[known], IDENTITIES[known], AGES[known])
    torch.testing.assert_close(whole[2:], part[2:], **EXACT)
    nobody = recognition_losses(model, head, IMAGES, IDENTITIES, torch.full_like(AGES, math.nan))
    assert (nobody.age.item(), nobody.adversary.item()) == (0.0, 0.0)
    torch.testing.assert_close(nobody.total, whole.identity, **EXACT)


def test_another_age_loss_is_asked_for_both_heads(model: MTLFace, head: CosFace) -> None:
    class OnlyYears(nn.Module):
        def forward(self, age_logits: Tensor, group_logits: Tensor, ages: Tensor) -> Tensor:
            return AgeCrossEntropyLoss(unknown_age=math.nan)(age_logits, ages)

    losses = recognition_losses(model, head, IMAGES, IDENTITIES, AGES, age_loss=OnlyYears())
    estimates = model(IMAGES)
    for loss, prediction in ((losses.age, estimates.age), (losses.adversary, estimates.adversary)):
        wanted = AgeCrossEntropyLoss(unknown_age=math.nan)(prediction.age_logits, AGES)
        torch.testing.assert_close(loss, wanted, **EXACT)


def test_the_encoder_runs_once_for_recognition(model: MTLFace, head: CosFace) -> None:
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    recognition_losses(model, head, IMAGES, IDENTITIES, AGES).total.backward()
    assert len(calls) == 1


@pytest.mark.parametrize("training", [False, True])
def test_the_discriminator_sees_two_batches_as_it_would_each_alone(model: MTLFace, training: bool) -> None:
    discriminator = model.discriminator
    assert discriminator is not None
    real, fake = random_images(6, seed=1, dtype=torch.float64), random_images(6, seed=2, dtype=torch.float64)
    fake.requires_grad_(True)
    if training:  # one power iteration is then in the weights, for both alike
        discriminator.train()
        before = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
        discriminator(real, TARGETS)
        once = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
        discriminator.load_state_dict({**discriminator.state_dict(), **before})
    losses = discriminator_losses(discriminator, real, fake, TARGETS)
    losses.total.backward()
    if training:
        for name, buffer in discriminator.named_buffers():
            torch.testing.assert_close(buffer, once[name], **EXACT)
    gradients = [parameter.grad for parameter in discriminator.parameters()]

    discriminator.eval()
    scores = discriminator(real, TARGETS), discriminator(fake.detach(), TARGETS)
    wanted = 0.5 * (scores[0] - 1).square().mean() + 0.5 * scores[1].square().mean()
    torch.testing.assert_close(losses, (wanted, scores[0].mean(), scores[1].mean()), check_stride=False, **EXACT)
    for ours, by_hand in zip(gradients, torch.autograd.grad(wanted, discriminator.parameters()), strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-7, atol=1e-10)
    assert fake.grad is None
    assert not losses.real_score.requires_grad
    assert not losses.fake_score.requires_grad


def test_another_adversarial_loss_is_asked_in_both_turns(model: MTLFace) -> None:
    discriminator = model.discriminator
    assert discriminator is not None
    real, fake, hinge = IMAGES, random_images(6, seed=2, dtype=torch.float64), HingeAdversarialLoss()
    scores = discriminator(real, TARGETS), discriminator(fake, TARGETS)
    ours = discriminator_losses(discriminator, real, fake, TARGETS, adversarial_loss=hinge)
    torch.testing.assert_close(ours.total, hinge.discriminator(*scores), **EXACT)
    source = encode_sources(model, IMAGES).identity
    turn = generator_losses(model, discriminator, fake, source, TARGETS, adversarial_loss=hinge)
    torch.testing.assert_close(turn.adversarial, hinge.generator(scores[1]), **EXACT)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_generator_is_judged_as_the_paper_says(model: MTLFace, reduction: Literal["mean", "sum"]) -> None:
    discriminator = model.discriminator
    assert discriminator is not None
    synthesized = random_images(6, seed=3, dtype=torch.float64).requires_grad_(True)
    seen, source = model.encode(synthesized), model.encode(IMAGES).identity.detach()
    distances = [(ours - theirs).square().sum() for ours, theirs in zip(seen.identity, source, strict=True)]
    identity = sum(distances) / (6 if reduction == "sum" else source.numel())
    logits = model.age_head(seen.age).group_logits
    age = -sum(row.log_softmax(0)[group] for row, group in zip(logits, TARGETS.tolist(), strict=True)) / 6
    adversarial = 0.5 * (discriminator(synthesized, TARGETS) - 1).square().mean()
    total = 75 * adversarial + 0.002 * identity + 10 * age
    (wanted,) = torch.autograd.grad(total, synthesized)

    modes = {name: module.training for name, module in model.train().named_modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = generator_losses(model, discriminator, synthesized, source, TARGETS, identity_reduction=reduction)
    torch.testing.assert_close(losses, (total, adversarial, identity, age), **EXACT)
    losses.total.backward()
    torch.testing.assert_close(synthesized.grad, wanted, rtol=1e-8, atol=1e-11)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_the_sources_are_encoded_in_eval_mode_and_without_gradients(model: MTLFace) -> None:
    wanted = model.encode(IMAGES)
    model.train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    encoded = encode_sources(model, IMAGES)
    torch.testing.assert_close(encoded, wanted, **EXACT)
    assert not any(part.requires_grad for part in (encoded.identity, encoded.age, *encoded.levels))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.encoder.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
