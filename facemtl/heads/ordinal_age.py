"""Age heads for rank-consistent ordinal regression: CORAL and CORN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.shapes import FeatureMap
from facemtl.heads.age import AgeTrunk


class CoralAgeHead(nn.Module):
    """Age head of CORAL: one score for a face, and a threshold for each year.

    The trunk is :class:`~facemtl.heads.age.AgeHead`'s. Logit k is the log-odds that the age exceeds k years,
    ``z_k = w·h + b_k``: one weight vector for all, so that the probabilities fall with k wherever the biases do. They
    start falling, and the loss keeps them so at its optimum. Train with :class:`facemtl.CoralLoss`, read with
    :func:`facemtl.coral_age`.

    Args:
        channels: C, channels of the map.
        map_size: Side of the map, or its (height, width).
        hidden: Units of the trunk.
        num_ages: Ages that are told apart, from 0 years; at least 2.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)`` of exactly ``map_size``.
        - Output: ``(batch, num_ages − 1)`` logits.

    Raises:
        ValueError: If a size is too small.
        ShapeError: If the input has not four axes, not ``channels`` channels or not the size that it was built for.
        TypeError: If the input is not floating point.

    Note:
        Behaves differently in train and eval mode through its batch norm.

    References:
        Cao, Mirjalili and Raschka, Pattern Recognition Letters 2020.

    Example:
        >>> import torch
        >>> from facemtl.layers.ordinal import coral_age
        >>> logits = CoralAgeHead(32)(torch.randn(4, 32, 7, 7))
        >>> logits.shape, coral_age(logits).shape
        (torch.Size([4, 100]), torch.Size([4]))
    """

    def __init__(
        self,
        channels: int = 512,
        map_size: int | tuple[int, int] = 7,
        *,
        hidden: int = 512,
        num_ages: int = 101,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_num_ages(type(self).__name__, num_ages)
        self.trunk = AgeTrunk(channels, map_size, hidden=hidden, where=type(self).__name__, device=device, dtype=dtype)
        self.score = nn.Linear(hidden, 1, bias=False, device=device, dtype=dtype)
        falling = torch.arange(num_ages - 1, 0, -1, device=device, dtype=dtype or torch.get_default_dtype())
        self.thresholds = nn.Parameter(falling / (num_ages - 1))

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the log-odds that the age of each face exceeds 0, 1, … years."""
        return self.score(self.trunk(features)) + self.thresholds


class CornAgeHead(nn.Module):
    """Age head of CORN: for each year the odds of exceeding it, given that the year before is exceeded.

    The trunk is :class:`~facemtl.heads.age.AgeHead`'s, the output a plain linear layer: the chain rule keeps the ranks
    consistent, so no weights need to be shared. Train with :class:`facemtl.CornLoss`, read with
    :func:`facemtl.corn_age`.

    Args:
        channels: C, channels of the map.
        map_size: Side of the map, or its (height, width).
        hidden: Units of the trunk.
        num_ages: Ages that are told apart, from 0 years; at least 2.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)`` of exactly ``map_size``.
        - Output: ``(batch, num_ages − 1)`` logits.

    Raises:
        ValueError: If a size is too small.
        ShapeError: If the input has not four axes, not ``channels`` channels or not the size that it was built for.
        TypeError: If the input is not floating point.

    Note:
        Behaves differently in train and eval mode through its batch norm.

    References:
        Shi, Cao and Raschka, Pattern Analysis and Applications 2023 (arXiv 2111.08851).

    Example:
        >>> import torch
        >>> from facemtl.layers.ordinal import corn_age
        >>> logits = CornAgeHead(32)(torch.randn(4, 32, 7, 7))
        >>> logits.shape, corn_age(logits).shape
        (torch.Size([4, 100]), torch.Size([4]))
    """

    def __init__(
        self,
        channels: int = 512,
        map_size: int | tuple[int, int] = 7,
        *,
        hidden: int = 512,
        num_ages: int = 101,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_num_ages(type(self).__name__, num_ages)
        self.trunk = AgeTrunk(channels, map_size, hidden=hidden, where=type(self).__name__, device=device, dtype=dtype)
        self.ranks = nn.Linear(hidden, num_ages - 1, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the conditional log-odds that the age of each face exceeds 0, 1, … years."""
        return self.ranks(self.trunk(features))


def _check_num_ages(where: str, num_ages: int) -> None:
    if num_ages < 2:
        raise ValueError(f"{where}: 'num_ages' must be at least 2, got {num_ages}.")
