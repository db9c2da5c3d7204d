"""CBAM: channel attention first, then spatial attention of what it lets through."""

from __future__ import annotations

import torch
from torch import nn

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap
from facemtl.layers.attention import SpatialAttention
from facemtl.layers.pyramid_pool import pyramid_pool


class CBAM(nn.Module):
    """CBAM's mask: channel attention, then spatial attention of the features that it lets through.

    ``M = M_c · M_s(x · M_c)`` with ``M_c = sigmoid(MLP(mean) + MLP(max))`` over the whole map and one MLP for both. It
    returns the mask, which a decomposition multiplies with; for CBAM as a block of its own take ``x * cbam(x)``. The
    paper's ablation names CBAM among the alternatives to its average without further detail; this is Woo et al.'s.

    Args:
        channels: C, channels of the map.
        reduction: The MLP's hidden layer has one unit for this many channels, rounded down, and at least one.
        kernel_size: Side of the spatial convolution, odd.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input and output: ``(batch, channels, height, width)``.

    Raises:
        ValueError: If a count is below 1, or ``kernel_size`` is even.
        ShapeError: If the input has not four axes, not ``channels`` channels, or no pixel.
        TypeError: If the input is not floating point.

    Note:
        In train mode the spatial mask depends on the whole batch through a batch norm.

    References:
        Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, Eq. 1-3.

    Example:
        >>> import torch
        >>> CBAM(32)(torch.randn(4, 32, 7, 7)).shape
        torch.Size([4, 32, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(
                f"CBAM: 'channels' and 'reduction' must be at least 1, got channels={channels}, reduction={reduction}."
            )
        self.channels = channels
        hidden = max(1, channels // reduction)
        self.channel_mlp = nn.Sequential(
            nn.Linear(channels, hidden, device=device, dtype=dtype),
            nn.ReLU(),
            nn.Linear(hidden, channels, device=device, dtype=dtype),
        )
        self.spatial = SpatialAttention(kernel_size=kernel_size, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> FeatureMap:
        """Return the mask of each element."""
        check_feature_map(f"{type(self).__name__}.forward", "features", features, channels=self.channels)
        mean = pyramid_pool(features, reduce="mean", grid_sizes=(1,))
        maximum = pyramid_pool(features, reduce="max", grid_sizes=(1,))
        channel = (self.channel_mlp(mean) + self.channel_mlp(maximum)).sigmoid()[:, :, None, None]
        return channel * self.spatial(features * channel)
