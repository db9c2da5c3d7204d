"""Convolutions of a filter bank followed by instance norm: only the filters that act are stored and run.

Instance norm treats each channel of each sample alone, so what a sample's other channels would have been is nobody's
business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.shapes import FeatureMap
from facemtl.layers.bank_convolution import bank_conv2d
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.instance_norm import instance_norm
from facemtl.layers.routing import Routing

Device = torch.device | str | None


class CompactBankEntry(nn.Module):
    """1×1 convolution into the bank and instance norm, for the channels of each sample's group.

    Args:
        layout: The bank's layout.
        channels: Input channels.
        device: Where the weights live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, channels, height, width)``, sorted by group.
        - Output: ``(batch, unit, height, width)``.
    """

    bank_axes = {"weight": (0,)}

    def __init__(
        self, layout: FilterBankLayout, channels: int, *, device: Device = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        self.weight = nn.Parameter(torch.empty(layout.channels, channels, 1, 1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as `torch.nn.Conv2d` does."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return the normalised channels of each sample's group."""
        return instance_norm(bank_conv2d(features, self.weight, routing, self.layout, form="out"))

    def whole(self, features: FeatureMap) -> Tensor:
        """Return all the bank's channels, normalised."""
        # One matrix product over all places of all samples: torch's 1×1 convolution on few threads is slower.
        places = features.shape[2] * features.shape[3]
        columns = features.flatten(2).transpose(0, 1).flatten(1)
        output = (self.weight.flatten(1).to(columns.dtype) @ columns).unflatten(1, (features.shape[0], places))
        return instance_norm(output.transpose(0, 1).unflatten(2, features.shape[2:]))


class CompactBankConvolution(nn.Module):
    """3×3 convolution from bank to bank and instance norm, for the channels of each sample's group.

    Args:
        layout: The bank's layout.
        device: Where the weights live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, unit, height, width)``, sorted by group; output alike.
        - weight: ``(num_pairs, 3, 3)``, a compact bank.
    """

    def __init__(self, layout: FilterBankLayout, *, device: Device = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.weight = nn.Parameter(torch.empty(layout.num_pairs, 3, 3, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as `torch.nn.Conv2d` of ``unit`` inputs does: as many act on an output."""
        bound = (9 * self.layout.unit) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return the normalised channels of each sample's group."""
        return instance_norm(bank_conv2d(features, self.weight, routing, self.layout, form="compact"))

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return f"{self.layout.channels} of which {self.layout.unit} act, kernel_size=3"
