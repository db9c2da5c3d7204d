from __future__ import annotations

import re

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.layers.attention import ChannelAttention, SpatialAttention
from facemtl.layers.cbam import CBAM
from facemtl.layers.pyramid_pool import pyramid_pool


def test_pyramid_pool_refuses_what_is_not_a_map() -> None:
    with pytest.raises(
        ShapeError, match=r"'features' must have shape \(batch, channels, height, width\), got \(3, 7, 7\)"
    ):
        pyramid_pool(torch.zeros(3, 7, 7))
    with pytest.raises(TypeError, match=r"'features' must have a floating-point dtype, got torch.uint8"):
        pyramid_pool(torch.zeros(1, 3, 7, 7, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"at least one pixel, got \(2, 3, 0, 7\)"):
        pyramid_pool(torch.zeros(2, 3, 0, 7))
    with pytest.raises(ValueError, match="'reduce' must be 'mean' or 'max', got 'sum'"):
        pyramid_pool(torch.zeros(2, 3, 7, 7), reduce="sum")
    for grids in ((), (1, 0)):
        with pytest.raises(ValueError, match=re.escape(f"each at least 1, got {grids}")):
            pyramid_pool(torch.zeros(2, 3, 7, 7), grid_sizes=grids)


def test_attention_refuses_other_channels_and_options() -> None:
    with pytest.raises(
        ShapeError,
        match=r"ChannelAttention.forward: 'features' must have channels = 8 on axis 1, got shape \(2, 6, 7, 7\). "
        r"Construct with channels=6",
    ):
        ChannelAttention(8)(torch.zeros(2, 6, 7, 7))
    with pytest.raises(ShapeError, match=r"CBAM.forward: 'features' must have channels = 8"):
        CBAM(8)(torch.zeros(2, 6, 7, 7))
    with pytest.raises(ShapeError, match=r"got \(2, 8, 7\)"):
        SpatialAttention()(torch.zeros(2, 8, 7))
    with pytest.raises(ValueError, match="'pyramids' must be 'summed' or 'concatenated', got 'mean'"):
        ChannelAttention(8, pyramids="mean")
    with pytest.raises(ValueError, match="'channels' must be at least 1, got 0"):
        ChannelAttention(0)
    with pytest.raises(ValueError, match="'reduction' must be at least 1, got -1"):
        ChannelAttention(8, reduction=-1)
    with pytest.raises(ValueError, match=r"each at least 1, got \(0, 2\)"):
        ChannelAttention(8, grid_sizes=(0, 2))
    with pytest.raises(ValueError, match="got channels=8, reduction=0"):
        CBAM(8, reduction=0)
    for kernel_size in (0, 4):
        with pytest.raises(ValueError, match=f"'kernel_size' must be odd and at least 1, got {kernel_size}"):
            SpatialAttention(kernel_size=kernel_size)
