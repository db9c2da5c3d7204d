"""The way out of a filter bank: from the channels of each sample's group to plain channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from facemtl._core.shapes import FeatureMap
from facemtl.layers.bank_convolution import bank_conv2d
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.instance_norm import InstanceNorm2d
from facemtl.layers.routing import Routing


class BankExit(nn.Module):
    """1×1 convolution from the channels of each sample's group to plain channels, and maybe a norm.

    Args:
        layout: The bank's layout.
        channels: Output channels.
        norm: ``"instance"``, ``"batch"`` or ``None``; a convolution without norm has a bias.
        device: Where the weights live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, unit, height, width)``, sorted by group.
        - Output: ``(batch, channels, height, width)``.
    """

    bank_axes = {"weight": (1,)}

    def __init__(
        self,
        layout: FilterBankLayout,
        channels: int,
        *,
        norm: Literal["instance", "batch"] | None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.weight = nn.Parameter(torch.empty(channels, layout.channels, 1, 1, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(channels, device=device, dtype=dtype)) if norm is None else None
        self.norm: nn.Module = nn.Identity()
        if norm is not None:
            batch = norm == "batch"
            self.norm = BatchNorm2d(channels, device=device, dtype=dtype) if batch else InstanceNorm2d(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as `torch.nn.Conv2d` of ``unit`` inputs does: as many act on an output."""
        bound = self.layout.unit**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Return plain channels."""
        output = bank_conv2d(features, self.weight, routing, self.layout, form="in")
        if self.bias is not None:
            output = output + self.bias.to(output.dtype)[:, None, None]
        return self.norm(output)
