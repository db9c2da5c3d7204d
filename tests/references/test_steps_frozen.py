"""The synthesis losses give gradients to what they train and to nothing else, and the same ones as without freezing."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.networks.mtlface import MTLFace
from facemtl.training.frozen import frozen, frozen_recogniser
from facemtl.training.steps import (
    GeneratorLosses,
    discriminator_losses,
    encode_sources,
    generator_losses,
    recognition_losses,
)
from tests.cases import randomise

SIDE, BATCH = 32, 3
FROZEN = ("encoder", "decomposition", "embedding", "age_head", "adversary", "discriminator")


@pytest.fixture
def model() -> MTLFace:
    """All parts in train mode, but for one norm, whose mode must stay its own."""
    model = randomise(MTLFace.paper2021(depth=18, width=4, image_size=SIDE, embedding_dimension=16)).train()
    model.encoder.stem.norm.eval()
    model.age_head.requires_grad_(True)
    next(model.decomposition.parameters()).requires_grad_(False)
    return model


def faces(seed: int = 0) -> Tensor:
    return torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


GROUPS = torch.tensor([0, 6, 3])


def aged_faces(model: MTLFace) -> tuple[Tensor, Tensor]:
    """Synthesized faces with their graph, and identity maps of their sources."""
    sources = encode_sources(model, faces())
    assert model.generator is not None
    return model.generator(sources.identity, sources.levels, faces(), GROUPS), sources.identity


def losses_of(model: MTLFace, recogniser: MTLFace | None = None) -> GeneratorLosses:
    aged, identity = aged_faces(model)
    return generator_losses(recogniser or model, model.discriminator, aged, identity, GROUPS)


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def state(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [part.training for part in model.modules()], [value.requires_grad for value in model.parameters()]


def no_gradient(modules: Iterable[nn.Module]) -> bool:
    return all(parameter.grad is None for module in modules for parameter in module.parameters())


def test_generator_losses_reach_no_weight_but_the_generators(model: MTLFace) -> None:
    before = state(model)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    losses = losses_of(model)
    assert state(model) == before  # while the graph lives, before the backward pass
    losses.total.backward()
    assert no_gradient(getattr(model, name) for name in FROZEN)
    assert all(gradient is not None for gradient in gradients(model.generator).values())
    assert any(bool(gradient.abs().max() > 0) for gradient in gradients(model.generator).values())
    assert state(model) == before
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


def test_generator_gradients_are_bit_for_bit_those_without_freezing(model: MTLFace) -> None:
    """The same operations in the same modes, with everything requiring gradients."""
    other = copy.deepcopy(model).requires_grad_(True)
    losses = losses_of(model)
    losses.total.backward()

    with torch.no_grad():
        eval_mode(other.encoder, other.decomposition)
        sources = other.encode(faces())
    aged = other.generator(sources.identity, sources.levels, faces(), GROUPS)
    eval_mode(other.age_head, other.discriminator)
    seen = other.encode(aged)
    age_logits = other.age_head(seen.age).group_logits
    scores = other.discriminator(aged, GROUPS)
    adversarial = 0.5 * (scores - 1.0).square().mean()
    squares = (seen.identity - sources.identity).square()
    cross_entropies = F.cross_entropy(age_logits, GROUPS, reduction="none")
    identity, age = squares.sum() / squares.numel(), cross_entropies.sum() / BATCH
    (75.0 * adversarial + 0.002 * identity + 10.0 * age).backward()

    assert torch.equal(losses.identity, identity)
    assert torch.equal(losses.age, age)
    theirs = gradients(other.generator)
    for name, gradient in gradients(model.generator).items():
        assert torch.equal(gradient, theirs[name]), name
    assert not no_gradient([other.encoder])  # what freezing saves
    assert not no_gradient([other.discriminator])


def test_a_folded_recogniser_gives_the_same_gradients_up_to_rounding(model: MTLFace) -> None:
    model = model.double()
    losses_of_double(model, model)
    plain = {name: gradient.clone() for name, gradient in gradients(model.generator).items()}
    model.zero_grad()
    losses_of_double(model, frozen_recogniser(model))
    for name, gradient in gradients(model.generator).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-8, atol=1e-10)
    assert no_gradient(getattr(model, name) for name in FROZEN)


def losses_of_double(model: MTLFace, recogniser: MTLFace) -> None:
    sources = encode_sources(recogniser, faces().double())
    aged = model.generator(sources.identity, sources.levels, faces().double(), GROUPS)
    generator_losses(recogniser, model.discriminator, aged, sources.identity, GROUPS).total.backward()


def test_discriminator_losses_leave_the_generator_alone(model: MTLFace) -> None:
    aged, _ = aged_faces(model)
    before = state(model)
    discriminator_losses(model.discriminator, faces(1), aged, GROUPS).total.backward()
    assert state(model) == before
    others = [part for name, part in model.named_children() if name != "discriminator"]
    assert no_gradient(others)
    assert all(gradient is not None for gradient in gradients(model.discriminator).values())


def test_the_discriminators_turn_takes_nothing_from_the_generators(model: MTLFace) -> None:
    """Faces synthesized before the discriminator's update still carry their graph after it."""
    aged, identity = aged_faces(model)
    optimizer = torch.optim.SGD(model.discriminator.parameters(), lr=0.1)
    discriminator_losses(model.discriminator, faces(1), aged, GROUPS).total.backward()
    optimizer.step()
    optimizer.zero_grad()
    generator_losses(model, model.discriminator, aged, identity, GROUPS).total.backward()
    assert no_gradient([model.discriminator])
    assert not no_gradient([model.generator])


def test_sources_are_encoded_without_a_graph_or_a_trace(model: MTLFace) -> None:
    before = state(model)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    sources = encode_sources(model, faces())
    assert not any(value.requires_grad for value in (sources.identity, sources.age, *sources.levels))
    assert state(model) == before
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


class Refusing(nn.Module):
    def forward(self, *inputs: object) -> Tensor:
        raise RuntimeError("no judgement today")


def test_modes_and_requires_grad_come_back_after_an_exception(model: MTLFace) -> None:
    before = state(model)
    aged, identity = aged_faces(model)
    with pytest.raises(RuntimeError, match="no judgement today"):
        generator_losses(model, Refusing(), aged, identity, GROUPS)
    assert state(model) == before
    with pytest.raises(ValueError, match="'images' must have"):
        encode_sources(model, faces()[:, :2])
    assert state(model) == before
    with pytest.raises(KeyError):
        fail_frozen(model)
    assert state(model) == before


def fail_frozen(model: MTLFace) -> None:
    with frozen(model):
        assert not any(part.training for part in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise KeyError


def test_recognition_reaches_neither_generator_nor_discriminator(model: MTLFace) -> None:
    head = nn.Linear(16, 5)

    def cross_entropy(embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(embeddings), labels)

    ages = torch.tensor([4.0, 44.0, 74.0])
    recognition_losses(model, cross_entropy, faces(), torch.tensor([0, 4, 2]), ages).total.backward()
    assert no_gradient([model.generator, model.discriminator])
    assert not no_gradient([model.encoder])


def eval_mode(*modules: nn.Module) -> None:
    for module in modules:
        module.eval()
