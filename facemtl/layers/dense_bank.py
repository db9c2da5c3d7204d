"""Convolutions of a filter bank followed by batch norm: in train mode every output channel counts.

The statistics of a channel are taken over the whole batch, samples of other groups included, and what those samples
have there comes through weights *between* groups. So the weights are dense, and in train mode only the inputs can be
sliced. In eval mode the statistics are constants and the active slices alone run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.shapes import FeatureMap
from facemtl.layers.bank_convolution import bank_conv2d
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.routing import Routing

Device = torch.device | str | None

_NORM_AXES = {f"norm.{name}": (0,) for name in ("weight", "bias", "running_mean", "running_var")}


class _DenseBankLayer(nn.Module):
    """Weights of all the bank's output channels, and their batch norm, whose shift makes a bias idle."""

    def __init__(
        self,
        layout: FilterBankLayout,
        inputs: int,
        fan_in: int,
        kernel: int,
        *,
        device: Device,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.fan_in = fan_in
        self.weight = nn.Parameter(torch.empty(layout.channels, inputs, kernel, kernel, device=device, dtype=dtype))
        self.norm = BatchNorm2d(layout.channels, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as `torch.nn.Conv2d` of as many inputs as act on an output does; a fresh norm."""
        bound = self.fan_in**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.norm.reset_parameters()

    def _normalise_and_select(self, features: Tensor, routing: Routing) -> Tensor:
        """Batch norm over all channels of all samples, then the channels of each sample's group."""
        normalised = self.norm(features)
        channels = self.layout.split(torch.arange(self.layout.channels, device=features.device))
        batch, bank, height, width = normalised.shape
        rows = torch.arange(batch, device=features.device)[:, None] * bank + channels.index_select(0, routing.groups)
        selected = normalised.reshape(batch * bank, height * width).index_select(0, rows.flatten())
        return selected.view(batch, self.layout.unit, height, width)

    def _normalise_selected(self, features: Tensor, routing: Routing) -> Tensor:
        """Batch norm by the running statistics, for the channels of each sample's group."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        shift = self.norm.bias - mean * scale
        scale, shift = (
            self.layout.split(values).index_select(0, routing.groups)[:, :, None, None] for values in (scale, shift)
        )
        return torch.addcmul(shift, features.to(shift.dtype), scale).to(features.dtype)


class DenseBankEntry(_DenseBankLayer):
    """1×1 convolution into the bank and batch norm, for the channels of each sample's group.

    Args:
        layout: The bank's layout.
        channels: Input channels.
        device: Where the weights live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, channels, height, width)``, sorted by group.
        - Output: ``(batch, unit, height, width)``.
    """

    bank_axes = {"weight": (0,), **_NORM_AXES}

    def __init__(
        self, layout: FilterBankLayout, channels: int, *, device: Device = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(layout, channels, channels, 1, device=device, dtype=dtype)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return the normalised channels of each sample's group."""
        if self.training:
            return self._normalise_and_select(F.conv2d(features, self.weight), routing)
        return self._normalise_selected(bank_conv2d(features, self.weight, routing, self.layout, form="out"), routing)

    def whole(self, features: FeatureMap) -> Tensor:
        """Return all the bank's channels, normalised."""
        return self.norm(F.conv2d(features, self.weight))


class DenseBankConvolution(_DenseBankLayer):
    """3×3 convolution from bank to bank and batch norm, for the channels of each sample's group.

    Args:
        layout: The bank's layout.
        device: Where the weights live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, unit, height, width)``, sorted by group; output alike.
    """

    bank_axes = {"weight": (0, 1), **_NORM_AXES}

    def __init__(self, layout: FilterBankLayout, *, device: Device = None, dtype: torch.dtype | None = None) -> None:
        super().__init__(layout, layout.channels, 9 * layout.unit, 3, device=device, dtype=dtype)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return the normalised channels of each sample's group."""
        if self.training:
            outputs = bank_conv2d(features, self.weight, routing, self.layout, form="in")
            return self._normalise_and_select(outputs, routing)
        outputs = bank_conv2d(features, self.weight, routing, self.layout, form="both")
        return self._normalise_selected(outputs, routing)
