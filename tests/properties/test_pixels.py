from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl._core.pixels import to_model_input, to_uint8


def test_every_uint8_level_comes_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    scaled = to_model_input(levels)
    assert scaled.min() == -1.0
    assert scaled.max() == 1.0
    assert torch.equal(to_uint8(scaled), levels)


def test_sixteen_bits_span_the_same_range() -> None:
    image = torch.tensor([0, 65535, 257 * 128], dtype=torch.uint16).reshape(3, 1, 1)
    torch.testing.assert_close(to_model_input(image).flatten(), torch.tensor([-1.0, 1.0, 2 * 128 / 255 - 1]))


@given(low=st.floats(-4, 4), span=st.floats(0.1, 300), seed=st.integers(0, 999))
def test_float_range_maps_linearly(low: float, span: float, seed: int) -> None:
    share = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    got = to_model_input(low + span * share, value_range=(low, low + span), dtype=torch.float64)
    torch.testing.assert_close(got, 2 * share - 1, rtol=0, atol=1e-10)


def test_out_of_range_residuals_are_clamped() -> None:
    assert to_uint8(torch.full((3, 1, 1), 1.7)).unique().tolist() == [255]
    assert to_uint8(torch.full((3, 1, 1), -1.7)).unique().tolist() == [0]
