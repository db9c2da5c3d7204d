from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.layers.reversal import GradientReversal, dann_strength, reverse_gradient

strengths = st.floats(0.0, 8.0)


@given(strength=strengths, seed=st.integers(0, 2**16))
def test_forward_is_identity_and_gradient_is_flipped_and_scaled(strength: float, seed: int) -> None:
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    output = reverse_gradient(features, strength=strength)
    assert torch.equal(output, features)
    weight = torch.randn(3, 4, dtype=torch.float64)
    (output * weight).sum().backward()
    torch.testing.assert_close(features.grad, -strength * weight, rtol=1e-15, atol=0.0)


@given(strength=strengths)
def test_twice_reversed_is_the_square(strength: float) -> None:
    features = torch.ones(2, dtype=torch.float64, requires_grad=True)
    reversal = GradientReversal(strength=strength)
    reversal(reversal(features)).sum().backward()
    torch.testing.assert_close(features.grad, torch.full((2,), strength**2, dtype=torch.float64))


@given(strength=strengths)
def test_double_backward_differentiates_the_reversed_gradient(strength: float) -> None:
    features = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        (reverse_gradient(features, strength=strength) ** 3).sum(), features, create_graph=True
    )
    torch.testing.assert_close(gradient, -strength * 3 * features.detach() ** 2)
    # The reversed gradient is -λ·3y² with y a reversed view of x, so its own derivative passes the reversal again.
    (second,) = torch.autograd.grad(gradient.sum(), features)
    torch.testing.assert_close(second, strength**2 * 6 * features.detach())


def test_nothing_is_recorded_under_no_grad() -> None:
    with torch.no_grad():
        assert reverse_gradient(torch.ones(2, requires_grad=True)).grad_fn is None


@given(first=st.floats(0.0, 1.0), second=st.floats(0.0, 1.0), gamma=st.floats(0.1, 50.0))
def test_dann_schedule_rises_within_its_range(first: float, second: float, gamma: float) -> None:
    low, high = sorted((first, second))
    assert 0.0 <= dann_strength(low, gamma=gamma) <= dann_strength(high, gamma=gamma) <= 1.0
