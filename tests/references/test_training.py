"""The blocks together: a small MTLFace learns to recognise, to tell ages apart and to paint, on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facemtl.heads.margin import CosFace
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.losses.adversarial import LeastSquaresAdversarialLoss
from facemtl.losses.age import AgeEstimationLoss
from facemtl.networks.mtlface import MTLFace

SIDE = 32
PEOPLE = 6
AGES = torch.tensor([8.0, 35.0, 70.0])


def faces() -> tuple[Tensor, Tensor, Tensor]:
    """Coloured patterns: the pattern is the person, the colour cast the age."""
    generator = torch.Generator().manual_seed(4)
    patterns = torch.rand(PEOPLE, 1, SIDE, SIDE, generator=generator) - 0.5
    casts = torch.tensor([[0.4, 0.0, -0.4], [0.0, 0.0, 0.0], [-0.4, 0.0, 0.4]])
    images = (patterns[:, None] + casts[None, :, :, None, None]).flatten(0, 1)
    people = torch.arange(PEOPLE).repeat_interleave(len(AGES))
    return images, people, AGES.repeat(PEOPLE)


@pytest.mark.slow
def test_recognition_and_age_are_learnt_together_and_then_ages_are_painted() -> None:
    torch.manual_seed(0)
    images, people, ages = faces()
    model = MTLFace.paper2021(depth=18, width=8, image_size=SIDE, embedding_dimension=32).train()
    margin_head, age_loss = CosFace(32, PEOPLE, scale=16.0), AgeEstimationLoss()
    recogniser = [model.encoder, model.decomposition, model.embedding, model.age_head, model.adversary, margin_head]
    optimizer = torch.optim.Adam([p for part in recogniser for p in part.parameters()], lr=2e-3)
    history = []
    for _ in range(60):
        estimates = model(images)
        identity = margin_head(estimates.embedding, people)
        age = age_loss(estimates.age.age_logits, estimates.age.group_logits, ages)
        reversed_age = age_loss(estimates.adversary.age_logits, estimates.adversary.group_logits, ages)
        optimizer.zero_grad()
        (identity + 0.01 * age + 0.001 * reversed_age).backward()
        optimizer.step()
        history.append((float(identity.detach()), float(age.detach())))
    assert history[-1][0] < 0.2 * history[0][0]
    assert history[-1][1] < 0.2 * history[0][1]

    with torch.no_grad():
        model.train()  # eighteen samples are their own best statistics
        estimated = expected_age(model(images).age.age_logits)
    assert float((estimated - ages).abs().mean()) < 10.0

    paint(model, images, ages)


def paint(model: MTLFace, images: Tensor, ages: Tensor) -> None:
    """Train generator and discriminator on a frozen encoder: the generator learns, and nothing reaches the encoder."""
    for part in (model.encoder, model.decomposition, model.embedding, model.age_head):
        part.eval().requires_grad_(False).zero_grad()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    generator, discriminator, adversarial = model.generator, model.discriminator, LeastSquaresAdversarialLoss()
    painters = torch.optim.Adam(generator.parameters(), lr=2e-3)
    critics = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    own_groups = AgeGroups().groups_of(ages)
    targets = own_groups[torch.randperm(len(ages), generator=torch.Generator().manual_seed(1))]
    encoded = model.encode(images)
    wrong = []
    for _ in range(60):
        painted = generator(encoded.identity, encoded.levels, images, targets)
        critics.zero_grad()
        adversarial.discriminator(
            discriminator(images, own_groups), discriminator(painted.detach(), targets)
        ).backward()
        critics.step()
        repainted = model.encode(painted)
        group_logits = model.age_head(repainted.age).group_logits
        age_term = torch.nn.functional.cross_entropy(group_logits, targets)
        identity_term = (repainted.identity - encoded.identity).square().mean()
        painters.zero_grad()
        (adversarial.generator(discriminator(painted, targets)) + 10 * age_term + identity_term).backward()
        painters.step()
        wrong.append(float(age_term.detach()))
    assert wrong[-1] < 0.5 * wrong[0]
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
