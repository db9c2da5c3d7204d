"""Squeeze-and-excitation: each channel weighed by what the whole map shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import check_feature_map
from facemtl._core.shapes import FeatureMap


class SqueezeExcitation(nn.Module):
    r"""Squeeze-and-excitation of a feature map: :math:`x \cdot \sigma(W_2 \operatorname{ReLU}(W_1 \bar x))`.

    Args:
        channels: Channels of the map.
        reduction: How many times fewer channels the bottleneck has (r in the paper); at least one stays.
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Shape:
        - Input and output: ``(batch, channels, height, width)``.

    Raises:
        ShapeError: If the input has not four axes or not ``channels`` channels.
        ValueError: If ``channels`` or ``reduction`` is not positive.

    References:
        Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, section 3. Without biases, as in the IR-SE
        encoders.

    Example:
        >>> import torch
        >>> SqueezeExcitation(32)(torch.randn(2, 32, 7, 7)).shape
        torch.Size([2, 32, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("reduction", reduction)):
            if value < 1:
                raise ValueError(f"SqueezeExcitation: '{name}' must be at least 1, got {value}.")
        hidden = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False, device=device, dtype=dtype)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False, device=device, dtype=dtype)
        nn.init.xavier_uniform_(self.squeeze.weight)
        nn.init.xavier_uniform_(self.excite.weight)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return ``features`` with each channel multiplied by its weight in (0, 1)."""
        check_feature_map(type(self).__name__, "features", features, channels=self.squeeze.in_channels)
        means = features.mean(dim=(2, 3), keepdim=True)
        return features * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))
