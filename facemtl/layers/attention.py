"""Attention masks over feature maps: by channel, by place, and both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.folding import fold_after
from facemtl.layers.inference import folded_copy
from facemtl.layers.pyramid_pool import num_cells, pyramid_pool


class ChannelAttention(nn.Module):
    """A mask in (0, 1) for each channel, from average and max pyramids of the map.

    ``sigmoid(BN(W₂ · relu(W₁ · pyramids)))``: squeeze-and-excitation whose squeeze sees 1×1, 2×2 and 3×3 cells instead
    of the global average alone. MTLFace at CVPR sums the two pyramids; its journal version concatenates them, which
    doubles the first matrix. ``grid_sizes=(1,)`` pools globally.

    Args:
        channels: C, channels of the map.
        reduction: The hidden layer has one unit for this many pooled values (16: 7168 → 448 at 512 channels), rounded
            down, and at least one.
        grid_sizes: Cells along a side of each grid of the pyramids.
        pyramids: ``"summed"`` (CVPR) or ``"concatenated"`` (journal).
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)``, any size from 1×1.
        - Output: ``(batch, channels, 1, 1)``.

    Raises:
        ValueError: If a count is below 1, or ``pyramids`` is neither of the two.
        ShapeError: If the input has not four axes, not ``channels`` channels, or no pixel.
        TypeError: If the input is not floating point.

    Note:
        In train mode the mask depends on the whole batch through the batch norm (momentum 0.01). A batch of one has no
        statistics of its own and uses the running ones.

    References:
        Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018; MTLFace (CVPR 2021), section 3.2.

    Example:
        >>> import torch
        >>> mask = ChannelAttention(32)(torch.randn(4, 32, 7, 7))
        >>> mask.shape, bool(((mask > 0) & (mask < 1)).all())
        (torch.Size([4, 32, 1, 1]), True)
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        grid_sizes: Sequence[int] = (1, 2, 3),
        pyramids: Literal["summed", "concatenated"] = "summed",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_counts(type(self).__name__, channels=channels, reduction=reduction)
        if pyramids not in ("summed", "concatenated"):
            raise ValueError(f"ChannelAttention: 'pyramids' must be 'summed' or 'concatenated', got {pyramids!r}.")
        self.channels = channels
        self.grid_sizes = tuple(grid_sizes)
        self.pyramids = pyramids
        pooled = channels * num_cells(self.grid_sizes) * (1 if pyramids == "summed" else 2)
        hidden = max(1, pooled // reduction)
        self.squeeze = nn.Linear(pooled, hidden, bias=False, device=device, dtype=dtype)
        self.excite = nn.Linear(hidden, channels, bias=False, device=device, dtype=dtype)
        self.norm = BatchNorm2d(channels, momentum=0.01, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the mask of each channel."""
        check_feature_map(f"{type(self).__name__}.forward", "features", features, channels=self.channels)
        mean = pyramid_pool(features, reduce="mean", grid_sizes=self.grid_sizes)
        maximum = pyramid_pool(features, reduce="max", grid_sizes=self.grid_sizes)
        pooled = mean + maximum if self.pyramids == "summed" else torch.cat([mean, maximum], dim=1)
        scores = self.excite(self.squeeze(pooled).relu())
        return self.norm(scores[:, :, None, None]).sigmoid()

    def for_inference(self) -> ChannelAttention:
        """Return a frozen copy in eval mode whose norm is folded into the last linear layer."""
        clone = folded_copy(self)
        clone.add_module("excite", fold_after(self.excite, self.norm))
        clone.add_module("norm", nn.Identity())
        return clone

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return f"{self.channels}, grid_sizes={self.grid_sizes}, pyramids={self.pyramids!r}"


class SpatialAttention(nn.Module):
    """A mask in (0, 1) for each place of the map, from the maximum and the mean over channels.

    ``sigmoid(BN(conv7×7([max, mean])))``, as in CBAM. It has no fixed number of channels.

    Args:
        kernel_size: Side of the convolution, odd.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)``, at least one channel.
        - Output: ``(batch, 1, height, width)``.

    Raises:
        ValueError: If ``kernel_size`` is even or below 1.
        ShapeError: If the input has not four axes.
        TypeError: If the input is not floating point.

    References:
        Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018.

    Example:
        >>> import torch
        >>> SpatialAttention()(torch.randn(4, 32, 7, 7)).shape
        torch.Size([4, 1, 7, 7])
    """

    def __init__(
        self,
        *,
        kernel_size: int = 7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"SpatialAttention: 'kernel_size' must be odd and at least 1, got {kernel_size}.")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)
        self.norm = BatchNorm2d(1, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the mask of each place."""
        check_feature_map(f"{type(self).__name__}.forward", "features", features)
        summary = torch.cat([features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)], dim=1)
        return self.norm(self.conv(summary)).sigmoid()

    def for_inference(self) -> SpatialAttention:
        """Return a frozen copy in eval mode whose norm is folded into the convolution."""
        return folded_copy(self, ("conv", "norm"))


class ChannelSpatialAttention(nn.Module):
    """The average of channel and spatial attention: MTLFace's mask, ``½ (channel + spatial)``.

    Args:
        channels: C, channels of the map.
        pyramids: ``"summed"`` (CVPR) or ``"concatenated"`` (journal) average and max pyramids, see
            :class:`ChannelAttention`.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input and output: ``(batch, channels, height, width)``.

    Raises:
        ValueError: If ``channels`` is below 1, or ``pyramids`` is neither of the two.
        ShapeError: If the input has not four axes, not ``channels`` channels, or no pixel.
        TypeError: If the input is not floating point.

    Note:
        Behaves differently in train and eval mode, as the two attentions do.

    References:
        MTLFace (CVPR 2021), section 3.2.

    Example:
        >>> import torch
        >>> ChannelSpatialAttention(32)(torch.randn(4, 32, 7, 7)).shape
        torch.Size([4, 32, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        pyramids: Literal["summed", "concatenated"] = "summed",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, pyramids=pyramids, device=device, dtype=dtype)
        self.spatial = SpatialAttention(device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> FeatureMap:
        """Return the mask of each element."""
        return 0.5 * (self.channel(features) + self.spatial(features))


def _check_counts(where: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{where}: '{name}' must be at least 1, got {count}.")
