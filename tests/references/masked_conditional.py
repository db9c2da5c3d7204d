"""The identity conditional module as the paper describes it: the whole bank runs, a 0/1 mask selects.

Nothing here comes from facemtl but the names of the keys, so that one state dict fits both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def starts_of(num_groups: int, unit: int, shared_fraction: float) -> list[int]:
    """First channel of each group, by the recurrence of the sources."""
    starts = [0]
    for _ in range(num_groups - 1):
        starts.append(int(starts[-1] + (1 - shared_fraction) * unit))
    return starts


class _Layer(nn.Module):
    """Convolution and norm; the norm's parameters sit in ``norm`` as in facemtl's dense bank."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: str) -> None:
        super().__init__()
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.weight, self.bias = convolution.weight, convolution.bias
        self.padding = kernel // 2
        norms = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": nn.Identity}
        self.norm = norms[norm](outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(nn.functional.conv2d(features, self.weight, self.bias, padding=self.padding))


def _activation(name: str, channels: int) -> nn.Module:
    if name == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(0.2)


class _Block(nn.Module):
    def __init__(self, bank: int, norm: str, activation: str) -> None:
        super().__init__()
        self.convolution1 = _Layer(bank, bank, 3, norm)
        self.activation1 = _activation(activation, bank)
        self.convolution2 = _Layer(bank, bank, 3, norm)
        self.activation2 = _activation(activation, bank)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        residual = self.activation1(self.convolution1(features) * mask)
        return self.activation2(features + self.convolution2(residual) * mask)


class MaskedConditionalModule(nn.Module):
    """Full bank-to-bank convolutions, each output multiplied by the mask of the sample's group."""

    def __init__(
        self,
        channels: int = 512,
        *,
        num_groups: int = 7,
        unit: int = 128,
        shared_fraction: float = 1 / 8,
        num_blocks: int = 4,
        norm: str = "instance",
        activation: str = "relu",
        output_norm: bool = False,
    ) -> None:
        super().__init__()
        starts = starts_of(num_groups, unit, shared_fraction)
        bank = max(int(unit * (num_groups - (num_groups - 1) * shared_fraction)), starts[-1] + unit)
        masks = torch.zeros(num_groups, bank)
        for row, start in zip(masks, starts, strict=True):
            row[start : start + unit] = 1.0
        self.register_buffer("masks", masks, persistent=False)
        self.entry = _Layer(channels, bank, 1, norm)
        self.activation = _activation(activation, bank)
        self.blocks = nn.ModuleList(_Block(bank, norm, activation) for _ in range(num_blocks))
        self.exit = _Layer(bank, channels, 1, norm if output_norm else "none")
        self.output = _activation(activation, channels) if output_norm else nn.Identity()

    def forward(self, identity_map: Tensor, groups: Tensor) -> Tensor:
        mask = self.masks[groups][:, :, None, None]
        features = self.activation(self.entry(identity_map)) * mask
        for block in self.blocks:
            features = block(features, mask)
        return self.output(self.exit(features))

    def all_groups(self, identity_map: Tensor) -> Tensor:
        """Each sample repeated for each group, as a user of the released code has to."""
        batch, num_groups = identity_map.shape[0], self.masks.shape[0]
        groups = torch.arange(num_groups).repeat(batch)
        return self(identity_map.repeat_interleave(num_groups, 0), groups).unflatten(0, (batch, num_groups))
