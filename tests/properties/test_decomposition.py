from __future__ import annotations

import math
from typing import Literal

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.layers.attribute_decomposition import MultiAttributeDecomposition, exclusive_shares
from facemtl.layers.decomposition import AttentionFeatureDecomposition
from tests.cases import randomise

sides = st.integers(1, 9)
seeds = st.integers(0, 2**16)
names = st.lists(st.sampled_from(("age", "pose", "expression", "light")), min_size=1, max_size=4, unique=True)


class Constant(nn.Module):
    """A mask that is the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Tensor) -> Tensor:
        return features.new_full((1, 1, 1, 1), self.value)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def units_in_the_last_place(got: Tensor, want: Tensor) -> Tensor:
    _, exponent = torch.frexp(want)
    return (got - want).abs() / torch.ldexp(torch.full_like(want, torch.finfo(want.dtype).eps / 2), exponent)


@given(
    batch=st.integers(0, 4),
    channels=st.integers(1, 20),
    height=sides,
    width=sides,
    mask_selects=st.sampled_from(("age", "identity")),
    training=st.booleans(),
    seed=seeds,
)
def test_parts_sum_to_the_map_to_the_last_bit(
    batch: int,
    channels: int,
    height: int,
    width: int,
    mask_selects: Literal["age", "identity"],
    training: bool,
    seed: int,
) -> None:
    module = AttentionFeatureDecomposition(channels, mask_selects=mask_selects)
    randomise(module, seed=seed).train(training)
    features = draw(seed, batch, channels, height, width, dtype=torch.float32)
    parts = module(features)
    assert parts.identity.shape == parts.age.shape == features.shape
    assert bool((units_in_the_last_place(parts.identity + parts.age, features) <= 1.0).all())
    # A part keeps the sign and never exceeds the whole: the mask lies in [0, 1].
    for part in parts:
        assert bool((part * features >= 0).all())
        assert bool((part.abs() <= features.abs()).all())


@given(mask=st.floats(0.5, 1.0, width=32), seed=seeds)
def test_parts_sum_exactly_where_the_mask_is_at_least_a_half(mask: float, seed: int) -> None:
    features = draw(seed, 2, 3, 4, 4, dtype=torch.float32)
    parts = AttentionFeatureDecomposition(3, attention=Constant(mask))(features)
    assert torch.equal(parts.identity + parts.age, features)


@given(mask=st.floats(0.0, 1.0), seed=seeds)
def test_mask_selects_the_named_part(mask: float, seed: int) -> None:
    features = draw(seed, 2, 3, 4, 4)
    by_age = AttentionFeatureDecomposition(3, attention=Constant(mask))(features)
    by_identity = AttentionFeatureDecomposition(3, attention=Constant(mask), mask_selects="identity")(features)
    torch.testing.assert_close(by_age.age, mask * features, rtol=0.0, atol=0.0)
    torch.testing.assert_close(by_age.identity, (1.0 - mask) * features, rtol=1e-14, atol=1e-14)
    assert torch.equal(by_identity.identity, by_age.age)
    assert torch.equal(by_identity.age, by_age.identity)


@given(batch=st.integers(1, 5), seed=seeds)
def test_samples_do_not_mix_in_eval_mode(batch: int, seed: int) -> None:
    features = draw(seed, batch, 6, 5, 4)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    for module in (AttentionFeatureDecomposition.journal2022(6), MultiAttributeDecomposition(6)):
        randomise(module.double(), seed=seed).eval()
        straight, shuffled = module(features), module(features[order])
        torch.testing.assert_close(shuffled.identity, straight.identity[order], rtol=1e-12, atol=1e-12)


@given(attributes=names, batch=st.integers(0, 3), height=sides, width=sides, training=st.booleans(), seed=seeds)
def test_all_attributes_and_the_rest_sum_to_the_map(
    attributes: list[str], batch: int, height: int, width: int, training: bool, seed: int
) -> None:
    module = MultiAttributeDecomposition(5, attributes=attributes).double()
    randomise(module, seed=seed).train(training)
    features = draw(seed, batch, 5, height, width)
    parts = module(features)
    assert list(parts.attributes) == attributes
    torch.testing.assert_close(parts.identity + sum(parts.attributes.values()), features, rtol=1e-14, atol=1e-14)
    for part in (parts.identity, *parts.attributes.values()):
        assert bool((part * features >= -1e-14).all())


@given(seed=seeds, training=st.booleans())
def test_one_attribute_is_the_plain_decomposition(seed: int, training: bool) -> None:
    plain = AttentionFeatureDecomposition(6).double()
    randomise(plain, seed=seed).train(training)
    several = MultiAttributeDecomposition(6, attributes=("age",), attentions={"age": plain.attention})
    several.train(training)
    features = draw(seed, 4, 6, 7, 7)
    want, got = plain(features), several(features)
    torch.testing.assert_close(got.attributes["age"], want.age, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got.identity, want.identity, rtol=1e-12, atol=1e-14)


@given(seed=seeds, order=st.permutations(("age", "pose", "expression")))
def test_order_of_attributes_does_not_matter(seed: int, order: list[str]) -> None:
    module = MultiAttributeDecomposition(4, attributes=("age", "pose", "expression")).double()
    randomise(module, seed=seed).eval()
    other = MultiAttributeDecomposition(4, attributes=order, attentions=dict(module.attentions.items())).eval()
    features = draw(seed, 2, 4, 7, 7)
    want, got = module(features), other(features)
    torch.testing.assert_close(got.identity, want.identity, rtol=1e-12, atol=1e-14)
    for name in order:
        torch.testing.assert_close(got.attributes[name], want.attributes[name], rtol=1e-12, atol=1e-14)


@given(masks=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
@example(masks=[1.0, 1.0])
@example(masks=[1.0, math.nextafter(1.0, 0.0)])
@example(masks=[0.0, 0.0, 0.0])
@example(masks=[1.0, 1.0, 1.0, 0.5])
def test_shares_are_those_of_independent_claims_of_which_at_most_one_holds(masks: list[float]) -> None:
    shares = [float(share) for share in exclusive_shares([torch.tensor(m, dtype=torch.float64) for m in masks])]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert sum(shares) <= 1.0 + 1e-12
    # A mask of 1 counts as the largest number below 1, so that several of them share evenly.
    below_1 = [min(mask, math.nextafter(1.0, 0.0)) for mask in masks]
    rest = math.prod(1.0 - mask for mask in below_1)
    claims = [mask * math.prod(1.0 - m for j, m in enumerate(below_1) if j != k) for k, mask in enumerate(below_1)]
    for share, claim in zip(shares, claims, strict=True):
        assert math.isclose(share, claim / (rest + sum(claims)), rel_tol=1e-6, abs_tol=1e-12)


@given(value=st.sampled_from((0.0, 1.0)), seed=seeds)
def test_saturated_masks_have_finite_gradients(value: float, seed: int) -> None:
    masks = [torch.full((2,), value, requires_grad=True) for _ in range(3)]
    shares = exclusive_shares(masks)
    gradients = torch.autograd.grad(sum(share.sum() for share in shares), masks)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
