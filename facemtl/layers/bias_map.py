"""A convolution whose bias knows the border: what is left of a shift that came before zero padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap


class BiasMapConv2d(nn.Module):
    r"""Convolution plus a bias map, which is smaller where the kernel hangs over the border.

    A batch norm before a convolution that pads with zeros is not a convolution with a bias: the norm's shift :math:`b`
    reaches the kernel everywhere but on the padding, which stays zero. So with :math:`y = a x + b`,

    .. math:: W \star \operatorname{pad}(a x + b)
              = (W a) \star \operatorname{pad}(x) + t \star \operatorname{pad}(1), \qquad t_o = \sum_i W_{oi}\, b_i,

    and the second term, the same for all samples, is a map that differs at the border. It is the convolution of a map
    of ones with one kernel for each output channel: 1/channels of the work for a single image, made anew for whatever
    size comes, so that nothing depends on a size and nothing is kept between calls (`torch.compile`, `torch.export` and
    ONNX take it with dynamic sizes). :func:`facemtl.layers.folding.fold_before` fills it from a norm and a convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side, or height and width, of the kernel.
        stride: Step of the kernel.
        padding: Zeros added on each side, or ``"same"``.
        dilation: Distance of the kernel's taps.
        groups: Groups of the convolution; the bias map has none.
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Shape:
        - Input: ``(batch, in_channels, height, width)``.
        - Output: ``(batch, out_channels, height', width')`` as of `torch.nn.Conv2d`.

    Raises:
        ShapeError: If the input has not four axes or not ``in_channels`` channels.

    Example:
        >>> import torch
        >>> layer = BiasMapConv2d(3, 1, 3, padding=1)
        >>> _ = torch.nn.init.ones_(layer.bias_map.weight), torch.nn.init.zeros_(layer.bias_map.bias)
        >>> layer(torch.zeros(1, 3, 3, 3))[0, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()

        def convolution(channels: int, groups: int, bias: bool) -> nn.Conv2d:
            return nn.Conv2d(
                channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device=device, dtype=dtype
            )

        self.convolution = convolution(in_channels, groups, bias=False)
        self.bias_map = convolution(1, 1, bias=True)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the convolution of ``features`` plus the bias map of their size."""
        check_feature_map(type(self).__name__, "features", features, channels=self.convolution.in_channels)
        output: Tensor = self.convolution(features)
        ones = features.new_ones(1, 1, features.shape[2], features.shape[3])
        return output.add_(self.bias_map(ones))
