"""Identity conditional modules at several scales: one for each map of a pyramid, all with the same target group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError
from facemtl._core.shapes import GroupLabels
from facemtl.layers.bank_activation import BankActivationName
from facemtl.layers.conditional import BankNorm, IdentityConditionalModule


class MultiScaleIdentityConditionalModule(nn.Module):
    """Condition identity maps of several scales on one target age group.

    The journal version of MTLFace conditions three maps (512 channels of 7×7, 256 of 14×14, 128 of 28×28), each by a
    bank of its own with units of 128, 64 and 32 channels. Each is an
    :class:`~facemtl.layers.conditional.IdentityConditionalModule`, reached as ``scales[i]``.

    Args:
        channels: Channels of each map.
        units: Channels that a group owns in each map's bank; as many as ``channels``.
        num_groups: Age groups.
        shared_fraction: s, the fraction of a unit that two neighbours share, in [0, 1/2].
        num_blocks: Blocks at each scale.
        norm: ``"instance"`` or ``"batch"``.
        activation: ``"relu"``, ``"prelu"`` or ``"leaky_relu"`` (slope 0.2, the journal's).
        output_norm: Whether norm and activation follow each last 1×1 convolution.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - identity_maps: one ``(batch, channels[i], height_i, width_i)`` a scale; groups: ``(batch,)`` integers.
        - Output: a tuple of maps as ``identity_maps``.

    Raises:
        ShapeError: If there are not as many maps as scales, or one has the wrong shape.
        ValueError: If ``channels`` and ``units`` differ in length, or an option is out of its range.

    Note:
        See :class:`~facemtl.layers.conditional.IdentityConditionalModule` for training.

    References:
        Huang, Zhang and Shan, "When Age-Invariant Face Recognition Meets Face Age Synthesis: A Multi-Task Learning
        Framework and a New Benchmark", arXiv 2210.09835.

    Example:
        >>> condition = MultiScaleIdentityConditionalModule((16, 8), (8, 4))
        >>> maps = (torch.randn(2, 16, 7, 7), torch.randn(2, 8, 14, 14))
        >>> [tuple(y.shape) for y in condition(maps, torch.tensor([0, 6]))]
        [(2, 16, 7, 7), (2, 8, 14, 14)]
    """

    def __init__(
        self,
        channels: Sequence[int] = (512, 256, 128),
        units: Sequence[int] = (128, 64, 32),
        *,
        num_groups: int = 7,
        shared_fraction: float = 1 / 8,
        num_blocks: int = 4,
        norm: BankNorm = "instance",
        activation: BankActivationName = "leaky_relu",
        output_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != len(units) or not channels:
            raise ValueError(
                f"{type(self).__name__}: 'units' must have one entry for each of 'channels' (at least one), got "
                f"{len(units)} for {len(channels)}."
            )
        options: dict[str, Any] = {
            "num_groups": num_groups,
            "shared_fraction": shared_fraction,
            "num_blocks": num_blocks,
            "norm": norm,
            "activation": activation,
            "output_norm": output_norm,
            "device": device,
            "dtype": dtype,
        }
        self.channels = tuple(channels)
        self.num_groups = num_groups
        self.scales = nn.ModuleList(
            IdentityConditionalModule(width, unit=unit, **options) for width, unit in zip(channels, units, strict=True)
        )

    def forward(self, identity_maps: Sequence[Tensor], groups: GroupLabels) -> tuple[Tensor, ...]:
        """Return each of ``identity_maps`` conditioned on one group a sample."""
        self._check_maps("forward", identity_maps)
        return tuple(scale(maps, groups) for scale, maps in zip(self.scales, identity_maps, strict=True))

    def all_groups(self, identity_maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return each map conditioned on every group: ``(batch, num_groups, channels[i], height_i, width_i)``."""
        self._check_maps("all_groups", identity_maps)
        scales: list[Any] = list(self.scales)
        return tuple(scale.all_groups(maps) for scale, maps in zip(scales, identity_maps, strict=True))

    def _check_maps(self, method: str, identity_maps: Sequence[Tensor]) -> None:
        if len(identity_maps) != len(self.channels):
            raise ShapeError(
                f"{type(self).__name__}.{method}: 'identity_maps' must hold {len(self.channels)} maps, got "
                f"{len(identity_maps)}."
            )
