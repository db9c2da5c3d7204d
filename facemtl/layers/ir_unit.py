"""The residual unit of the IR encoders, and their stem."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.inference import folded_copy
from facemtl.layers.squeeze_excitation import SqueezeExcitation


class IRUnit(nn.Module):
    r"""Improved residual unit of ArcFace: norm, convolution, norm, PReLU, convolution, norm; plus a shortcut.

    :math:`y = \operatorname{BN}(W_2 \star \operatorname{PReLU}(\operatorname{BN}(W_1 \star \operatorname{BN}(x))))
    + S(x)`, with an optional squeeze-and-excitation behind the last norm. The stride sits in the second convolution;
    both are 3×3. The shortcut ``S`` is the identity, every ``stride``-th pixel, or a strided 1×1 convolution and norm.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: 1, or 2 to halve the map.
        projection: Whether the shortcut is a 1×1 convolution with a norm; ``None``: where the channels differ.
        squeeze_excitation: Add a squeeze-and-excitation with reduction 16.
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Shape:
        - Input: ``(batch, in_channels, height, width)``.
        - Output: ``(batch, out_channels, ceil(height/stride), ceil(width/stride))``.

    Raises:
        ShapeError: If the input has not four axes or not ``in_channels`` channels.
        ValueError: If ``projection`` is off where the channels differ.

    Training:
        Convolutions start from Xavier's uniform distribution. A batch of one trains.

    References:
        Deng, Guo, Xue and Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019,
        section 3.1; Duta et al., "Improved Residual Networks for Image and Video Recognition", ICPR 2020.

    Example:
        >>> import torch
        >>> IRUnit(16, 32, stride=2)(torch.randn(2, 16, 14, 14)).shape
        torch.Size([2, 32, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        projection: bool | None = None,
        squeeze_excitation: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if projection is None:
            projection = in_channels != out_channels
        if in_channels != out_channels and not projection:
            raise ValueError(
                f"IRUnit: 'projection' must be on where channels differ, got {in_channels} to {out_channels} channels. "
                f"Leave it at None."
            )
        self.in_channels = in_channels
        self.norm1 = BatchNorm2d(in_channels, device=device, dtype=dtype)
        self.conv1 = convolution(in_channels, out_channels, 3, device=device, dtype=dtype)
        self.norm2 = BatchNorm2d(out_channels, device=device, dtype=dtype)
        self.activation = nn.PReLU(out_channels, device=device, dtype=dtype)
        self.conv2 = convolution(out_channels, out_channels, 3, stride=stride, device=device, dtype=dtype)
        self.norm3 = BatchNorm2d(out_channels, device=device, dtype=dtype)
        self.excitation = (
            SqueezeExcitation(out_channels, device=device, dtype=dtype) if squeeze_excitation else nn.Identity()
        )
        self.shortcut: nn.Module = (
            Projection(in_channels, out_channels, stride=stride, device=device, dtype=dtype)
            if projection
            else Subsample(stride)
        )

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the unit's map."""
        check_feature_map(type(self).__name__, "features", features, channels=self.in_channels)
        residual = self.activation(self.norm2(self.conv1(self.norm1(features))))
        residual = self.excitation(self.norm3(self.conv2(residual)))
        return residual + self.shortcut(features)

    def for_inference(self) -> IRUnit:
        """Return a frozen copy in eval mode with its norms folded.

        See :func:`~facemtl.layers.inference.fold_batch_norms`.
        """
        return folded_copy(self, ("norm1", "conv1", "norm2", "activation", "conv2", "norm3"))


class Stem(nn.Module):
    """First layer of the IR encoders: 3×3 convolution, norm, PReLU, at full size."""

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.convolution = convolution(3, channels, 3, device=device, dtype=dtype)
        self.norm = BatchNorm2d(channels, device=device, dtype=dtype)
        self.activation = nn.PReLU(channels, device=device, dtype=dtype)

    def forward(self, images: FeatureMap) -> Tensor:
        """Return the stem's map."""
        return self.activation(self.norm(self.convolution(images)))

    def for_inference(self) -> Stem:
        """Return a frozen copy in eval mode with its norm folded."""
        return folded_copy(self, ("convolution", "norm"))


class Projection(nn.Module):
    """Shortcut of a unit that changes the channels: strided 1×1 convolution and norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.convolution = convolution(in_channels, out_channels, 1, stride=stride, device=device, dtype=dtype)
        self.norm = BatchNorm2d(out_channels, device=device, dtype=dtype)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the projected map."""
        return self.norm(self.convolution(features))

    def for_inference(self) -> Projection:
        """Return a frozen copy in eval mode with its norm folded."""
        return folded_copy(self, ("convolution", "norm"))


class Subsample(nn.Module):
    """Shortcut of a unit that keeps the channels: every ``stride``-th row and column."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: FeatureMap) -> Tensor:
        """Return a view of ``features``."""
        return features if self.stride == 1 else features[:, :, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        """Show the stride in ``repr``."""
        return f"stride={self.stride}"


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Conv2d:
    """Build a convolution without bias that keeps the size at stride 1, with Xavier's uniform weights."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False, device=device, dtype=dtype
    )
    nn.init.xavier_uniform_(layer.weight)
    return layer
