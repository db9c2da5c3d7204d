"""Age head: a distribution over years, and over age groups, from a feature map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_feature_map, shape_text
from facemtl._core.shapes import FeatureMap
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.inference import folded_copy


class AgePrediction(NamedTuple):
    """What an age head says of each face."""

    age_logits: Tensor
    """``(batch, ages)`` raw scores over bins of one year; :func:`facemtl.expected_age` gives the years."""

    group_logits: Tensor
    """``(batch, groups)`` raw scores over age groups."""


class AgeHead(nn.Module):
    """Estimate age from a feature map, as a distribution over years and one over age groups.

    BN–Flatten–Linear–ReLU–Linear gives the age logits; a last linear layer of *the raw age logits* gives the group
    logits, as in the released code. MTLFace has two: one reads the age features, the other plays the adversary on the
    identity features behind a :class:`facemtl.GradientReversal`. Train it with :class:`facemtl.AgeEstimationLoss`.

    Args:
        channels: C, channels of the map.
        map_size: Side of the map, or its (height, width).
        hidden: Units between the two linear layers.
        num_ages: Bins of one year, from 0.
        num_groups: Age groups, as :attr:`facemtl.AgeGroups.num_groups`.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)`` of exactly ``map_size``.
        - Output: :class:`AgePrediction`, ``(batch, num_ages)`` and ``(batch, num_groups)``.

    Raises:
        ValueError: If a size is below 1.
        ShapeError: If the input has not four axes, not ``channels`` channels or not the size that it was built for.
        TypeError: If the input is not floating point.

    Note:
        Behaves differently in train and eval mode through its batch norm, whose statistics are those of the map that it
        reads: the head of the age map and the adversary of the identity map are two instances, never a shared one.

    References:
        MTLFace (CVPR 2021), section 3.2; Rothe et al., "Deep Expectation of Real and Apparent Age from a Single Image
        Without Facial Landmarks", IJCV 2018.

    Example:
        >>> import torch
        >>> from facemtl.layers.age import expected_age
        >>> prediction = AgeHead(32, map_size=7)(torch.randn(4, 32, 7, 7))
        >>> prediction.age_logits.shape, prediction.group_logits.shape
        (torch.Size([4, 101]), torch.Size([4, 7]))
        >>> expected_age(prediction.age_logits).shape
        torch.Size([4])
    """

    def __init__(
        self,
        channels: int = 512,
        map_size: int | tuple[int, int] = 7,
        *,
        hidden: int = 512,
        num_ages: int = 101,
        num_groups: int = 7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("num_ages", num_ages), ("num_groups", num_groups)):
            if size < 1:
                raise ValueError(f"AgeHead: '{name}' must be at least 1, got {size}.")
        self.trunk = AgeTrunk(channels, map_size, hidden=hidden, where=type(self).__name__, device=device, dtype=dtype)
        self.age = nn.Linear(hidden, num_ages, device=device, dtype=dtype)
        self.group = nn.Linear(num_ages, num_groups, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> AgePrediction:
        """Return age logits and group logits of each face."""
        age_logits = self.age(self.trunk(features))
        return AgePrediction(age_logits=age_logits, group_logits=self.group(age_logits))


class AgeTrunk(nn.Module):
    """BN–Flatten–Linear–ReLU: what all age heads share before their output layers.

    Args:
        channels: Channels of the map.
        map_size: Side of the map, or its (height, width).
        hidden: Units of the linear layer.
        where: The head's name, for messages.
        device: Where the parameters are made.
        dtype: Their type.
    """

    def __init__(
        self,
        channels: int,
        map_size: int | tuple[int, int],
        *,
        hidden: int,
        where: str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        height, width = (map_size, map_size) if isinstance(map_size, int) else map_size
        for name, size in (("channels", channels), ("map_size", min(height, width)), ("hidden", hidden)):
            if size < 1:
                raise ValueError(f"{where}: '{name}' must be at least 1, got {size}.")
        self.channels, self.height, self.width, self.where = channels, height, width, where
        self.norm = BatchNorm2d(channels, device=device, dtype=dtype)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels * height * width, hidden, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return ``(batch, hidden)`` activations."""
        check_feature_map(f"{self.where}.forward", "features", features, channels=self.channels)
        if features.shape[2:] != (self.height, self.width):
            raise ShapeError(
                f"{self.where}.forward: 'features' must have height x width = {self.height} x {self.width}, "
                f"which it was built for, got shape {shape_text(features)}. "
                f"Construct with map_size=({features.shape[2]}, {features.shape[3]})."
            )
        return self.linear(self.flatten(self.norm(features))).relu()

    def for_inference(self) -> AgeTrunk:
        """Return a frozen copy in eval mode whose norm is folded into the linear layer."""
        return folded_copy(self, ("norm", "flatten", "linear"))
