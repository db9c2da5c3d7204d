"""Activation of the channels of a filter bank that each sample's group owns."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.shapes import FeatureMap
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.routing import Routing

BankActivationName = Literal["relu", "prelu", "leaky_relu"]

LEAKY_SLOPE = 0.2


def check_activation(where: str, activation: str) -> None:
    """Raise :class:`ValueError` unless ``activation`` is one that the bank knows."""
    if activation not in get_args(BankActivationName):
        names = ", ".join(map(repr, get_args(BankActivationName)))
        raise ValueError(f"{where}: 'activation' must be one of {names}, got {activation!r}.")


def plain_activation(
    activation: BankActivationName, channels: int, *, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """The same activation for a map in which every channel belongs to every sample."""
    if activation == "prelu":
        return nn.PReLU(channels, device=device, dtype=dtype)
    return nn.ReLU() if activation == "relu" else nn.LeakyReLU(LEAKY_SLOPE)


class BankActivation(nn.Module):
    """ReLU, leaky ReLU (slope 0.2) or PReLU with one slope (0.25 at first) for each channel of the bank.

    It follows a norm or a sum, whose results nobody else reads: ReLU and leaky ReLU work in place.

    Args:
        layout: The bank's layout.
        activation: ``"relu"``, ``"prelu"`` or ``"leaky_relu"``.
        device: Where the slopes live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, unit, height, width)``, sorted by group; output alike.
    """

    def __init__(
        self,
        layout: FilterBankLayout,
        activation: BankActivationName,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_activation(type(self).__name__, activation)
        self.layout = layout
        self.activation = activation
        if activation == "prelu":
            self.weight = nn.Parameter(torch.full((layout.channels,), 0.25, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)

    @property
    def bank_axes(self) -> dict[str, tuple[int, ...]]:
        """Axes of the state that run over the bank's channels."""
        return {"weight": (0,)} if self.activation == "prelu" else {}

    def forward(self, features: FeatureMap, routing: Routing) -> Tensor:
        """Activate the channels of each sample's group."""
        if self.activation != "prelu":
            return self.whole(features)
        slopes = self.layout.split(self.weight).index_select(0, routing.groups)[:, :, None, None]
        return torch.where(features > 0, features, features * slopes.to(features.dtype))

    def whole(self, features: FeatureMap) -> Tensor:
        """Activate a map of all the bank's channels."""
        if self.activation == "prelu":
            return F.prelu(features, self.weight.to(features.dtype))
        return (
            F.relu(features, inplace=True)
            if self.activation == "relu"
            else F.leaky_relu(features, LEAKY_SLOPE, inplace=True)
        )

    def extra_repr(self) -> str:
        """Show the activation in ``repr``."""
        return self.activation
