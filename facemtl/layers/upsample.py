"""One level of the image decoder: upsample, join the encoder's feature of that size, refine by residual blocks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import ShapeError, check_feature_map, check_size, shape_text
from facemtl._core.shapes import FeatureMap
from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.instance_norm import InstanceNorm2d

DecoderNorm = Literal["instance", "batch"]
DecoderActivation = Literal["relu", "prelu"]

INITIAL_STD = 0.01
"""Standard deviation of the decoder's convolutions at the start."""


class DecoderLevel(nn.Module):
    r"""Double the size of a feature map and join it with the encoder's feature of that size (a skip connection).

    With :math:`u` the features upsampled twofold (bilinear, half-pixel centres) and :math:`s` the skip feature,

    .. math:: a &= C(\phi(C(\phi([u \mid s])))) + C_{1 \times 1}(u) \\
              y &= a + C(\phi(C(\phi(a))))

    where :math:`\phi` is norm, then activation, and each :math:`C` a 3×3 convolution of its own: two residual blocks
    that activate first; the shortcut of the first sees the upsampled features alone.

    The concatenation is never made. Norm and activation act on each channel alone and a convolution is linear, so
    :math:`C(\phi([u \mid s])) = C_u(\phi_u(u)) + C_s(\phi_s(s))`, with two modules for the two halves: the same
    numbers, and what the skip feature adds is computed once for all targets that a face is decoded to
    (:meth:`refine`).

    Args:
        channels: Channels of the features that come from below.
        skip_channels: Channels of the encoder's feature.
        out_channels: Channels of the result.
        norm: ``"instance"`` (paper, without scale and shift) or ``"batch"`` (released code).
        activation: ``"relu"`` (paper) or ``"prelu"`` (released code; one slope a channel, 0.25 at first).
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - features: ``(batch, channels, height, width)``.
        - skip: ``(batch, skip_channels, 2 * height, 2 * width)``.
        - Output: ``(batch, out_channels, 2 * height, 2 * width)``.

    Raises:
        ShapeError: If rank, channels, size or batch of an input do not fit.
        TypeError: If an input is not floating point.
        ValueError: At construction, for channels that are not positive or an unknown norm or activation.

    Note:
        Convolutions start at a normal distribution of standard deviation 0.01 with zero bias. Those that a norm follows
        have no bias: the norm subtracts it again (released biases move into the running mean). With ``norm="batch"`` in
        train mode :meth:`refine` takes the statistics of the upsampled half from ``batch * targets`` maps and those of
        the skip from ``batch``; as each skip serves equally often, this equals repeating it, but for the factor
        n / (n − 1) in the running variance.

    References:
        MTLFace (CVPR 2021), supplement B; He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016.

    Example:
        >>> import torch
        >>> level = DecoderLevel(32, 16, 8)
        >>> level(torch.randn(2, 32, 7, 7), torch.randn(2, 16, 14, 14)).shape
        torch.Size([2, 8, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        norm: DecoderNorm = "instance",
        activation: DecoderActivation = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_construction(channels, skip_channels, out_channels, norm, activation)

        def activated_convolution(inputs: int, *, bias: bool) -> nn.Sequential:
            return _activated_convolution(inputs, out_channels, norm, activation, bias, device, dtype)

        self.channels = channels
        self.skip_channels = skip_channels
        self.features = activated_convolution(channels, bias=False)
        self.skip = activated_convolution(skip_channels, bias=False)
        self.joint = activated_convolution(out_channels, bias=True)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, device=device, dtype=dtype)
        self.residual = nn.Sequential(
            activated_convolution(out_channels, bias=False), activated_convolution(out_channels, bias=True)
        )
        initialise_convolutions(self)

    def forward(self, features: FeatureMap, skip: Tensor) -> Tensor:
        """Return the refined features at twice the size."""
        self._check_inputs(features, skip)
        return self.refine(features, self.skip(skip))

    def refine(self, features: FeatureMap, shared: Tensor, *, targets: int = 1) -> Tensor:
        """Return the refined features, given what the skip feature adds: the half of :meth:`forward` for one target.

        Args:
            features: ``(batch * targets, channels, height, width)``; row ``i`` belongs to image ``i // targets``.
            shared: ``level.skip(skip)`` of ``batch`` skip features, computed once for all targets.
            targets: How many consecutive rows of ``features`` share a row of ``shared``.
        """
        upsampled = F.interpolate(features, size=shared.shape[2:], mode="bilinear", align_corners=False)
        hidden = add_to_each_target(self.features(upsampled), shared, targets)
        refined = self.joint(hidden) + self.shortcut(upsampled)
        return refined + self.residual(refined)

    def _check_inputs(self, features: Tensor, skip: Tensor) -> None:
        where = type(self).__name__
        check_feature_map(where, "features", features, channels=self.channels)
        check_feature_map(where, "skip", skip, channels=self.skip_channels)
        height, width = features.shape[2:]
        if skip.shape[2] != 2 * height or skip.shape[3] != 2 * width:
            raise ShapeError(
                f"{where}: 'skip' must be twice as large as 'features', {2 * height} x {2 * width}, "
                f"got shape {shape_text(skip)}. Pass the encoder's feature of the next finer level."
            )
        check_size(where, "skip", skip, 0, "batch", features.shape[0])


def add_to_each_target(features: Tensor, shared: Tensor, targets: int) -> Tensor:
    """Add row ``i // targets`` of ``shared`` to row ``i`` of ``features``, without repeating ``shared``."""
    if targets == 1:
        return features + shared
    return (features.unflatten(0, (shared.shape[0], targets)) + shared.unsqueeze(1)).flatten(0, 1)


def initialise_convolutions(module: nn.Module) -> None:
    """Draw every convolution's weight in ``module`` from N(0, 0.01²) and set its bias to zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=INITIAL_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _activated_convolution(
    channels: int,
    out_channels: int,
    norm: DecoderNorm,
    activation: DecoderActivation,
    bias: bool,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Sequential:
    """Norm, activation and 3×3 convolution, in this order."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            norm=BatchNorm2d(channels, device=device, dtype=dtype) if norm == "batch" else InstanceNorm2d(channels),
            activation=nn.PReLU(channels, device=device, dtype=dtype)
            if activation == "prelu"
            else nn.ReLU(inplace=norm == "instance"),
            convolution=nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias, device=device, dtype=dtype),
        )
    )


def _check_construction(
    channels: int, skip_channels: int, out_channels: int, norm: DecoderNorm, activation: DecoderActivation
) -> None:
    for name, value in (("channels", channels), ("skip_channels", skip_channels), ("out_channels", out_channels)):
        if value < 1:
            raise ValueError(f"DecoderLevel: '{name}' must be positive, got {value}.")
    if norm not in ("instance", "batch"):
        raise ValueError(f"DecoderLevel: 'norm' must be 'instance' or 'batch', got {norm!r}.")
    if activation not in ("relu", "prelu"):
        raise ValueError(f"DecoderLevel: 'activation' must be 'relu' or 'prelu', got {activation!r}.")
