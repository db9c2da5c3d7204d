"""Instance normalisation without parameters that also takes empty batches and maps of one pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap


def instance_norm(features: FeatureMap, *, eps: float = 1e-5) -> FeatureMap:
    """Normalise each channel of each sample to mean 0 and variance 1 over its map.

    As `torch.nn.functional.instance_norm`, but total: an empty batch passes, and a 1×1 map, which has no variance and
    which torch refuses, gives what the formula gives: ``(x - x) / sqrt(0 + eps) = 0``.

    Args:
        features: ``(batch, channels, height, width)``, floating point.
        eps: Added to the variance.

    Returns:
        The same shape and dtype.

    Raises:
        ShapeError: If ``features`` has not four axes.
        TypeError: If ``features`` is not floating point.

    Example:
        >>> import torch
        >>> instance_norm(torch.tensor([[[[1.0, 3.0]]], [[[9.0, 5.0]]]])).round(decimals=3).tolist()
        [[[[-1.0, 1.0]]], [[[1.0, -1.0]]]]
    """
    check_feature_map("instance_norm", "features", features)
    if features.shape[2] * features.shape[3] == 1 or features.numel() == 0:
        return features - features
    if features.device.type == "cpu" and features.is_contiguous() and not torch.compiler.is_compiling():
        # The same formula in a kernel that is three times as fast; for channels_last its variance loses digits.
        return F.group_norm(features, features.shape[1], eps=eps)
    return F.instance_norm(features, eps=eps)


class InstanceNorm2d(nn.Module):
    """Instance normalisation without parameters, in train and eval mode alike.

    The published MTLFace generator normalises without scale and shift. See :func:`instance_norm` for empty batches and
    1×1 maps.

    Args:
        num_features: Channels; kept for ``repr`` and so that it replaces a batch norm.
        eps: Added to the variance.

    Shape:
        - Input and output: ``(batch, num_features, height, width)``.

    Raises:
        ShapeError: If the input has not four axes or not ``num_features`` channels.

    References:
        Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization",
        arXiv 1607.08022.

    Example:
        >>> import torch
        >>> InstanceNorm2d(8)(torch.randn(2, 8, 7, 7)).mean(dim=(2, 3)).abs().max() < 1e-5
        tensor(True)
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the normalised features."""
        check_feature_map(type(self).__name__, "features", features, channels=self.num_features)
        return instance_norm(features, eps=self.eps)

    def extra_repr(self) -> str:
        """Show the channels and eps in ``repr``."""
        return f"{self.num_features}, eps={self.eps:g}"
