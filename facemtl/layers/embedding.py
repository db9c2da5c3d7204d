"""From a feature map to an embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_feature_map, shape_text
from facemtl._core.shapes import FeatureMap
from facemtl.layers.batch_norm import BatchNorm1d, BatchNorm2d
from facemtl.layers.inference import folded_copy


class EmbeddingHead(nn.Module):
    r"""Embedding of a feature map: norm, dropout, flatten, linear, norm.

    :math:`e = \operatorname{BN}(W \operatorname{vec}(\operatorname{BN}(X)) + b)`, ArcFace's setting E. The flatten ties
    the head to one map size, stated at construction: another size raises and says for which images the head was built.
    The embedding is not normalised to unit length; margin heads do that.

    Args:
        channels: Channels of the map.
        map_size: Side, or height and width, of the map: 7 for images of 112×112.
        dimension: Length of the embedding.
        dropout: Probability of dropping a value of the map, in [0, 1).
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Shape:
        - Input: ``(batch, channels, *map_size)``.
        - Output: ``(batch, dimension)``.

    Raises:
        ShapeError: If the input has another number of channels or another size.
        ValueError: If a size is not positive or ``dropout`` lies outside [0, 1).

    Training:
        The linear layer starts from Xavier's uniform distribution with zero bias. A batch of one trains: the last norm
        then uses its running statistics. insightface freezes the scale of the last norm at 1; do that with
        ``head.output_norm.weight.requires_grad_(False)``.

    References:
        Deng et al., "ArcFace", CVPR 2019, section 3.1 (BN-Dropout-FC-BN after the last convolution).

    Example:
        >>> import torch
        >>> EmbeddingHead(32, 7, dimension=16)(torch.randn(2, 32, 7, 7)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        channels: int = 512,
        map_size: int | tuple[int, int] = 7,
        *,
        dimension: int = 512,
        dropout: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        height, width = (map_size, map_size) if isinstance(map_size, int) else map_size
        for name, value in (("channels", channels), ("map_size", min(height, width)), ("dimension", dimension)):
            if value < 1:
                raise ValueError(f"EmbeddingHead: '{name}' must be at least 1, got {value}.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"EmbeddingHead: 'dropout' must lie in [0, 1), got {dropout}.")
        self.channels = channels
        self.map_size = (height, width)
        self.dimension = dimension
        self.input_norm = BatchNorm2d(channels, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels * height * width, dimension, device=device, dtype=dtype)
        self.output_norm = BatchNorm1d(dimension, device=device, dtype=dtype)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: FeatureMap) -> Tensor:
        """Return the embeddings of ``features``."""
        check_feature_map("EmbeddingHead.forward", "features", features, channels=self.channels)
        height, width = self.map_size
        if features.shape[2] != height or features.shape[3] != width:
            raise ShapeError(
                f"EmbeddingHead.forward: 'features' must have height x width = {height} x {width}, as an encoder makes "
                f"them of images of {16 * height} x {16 * width}, got shape {shape_text(features)}. "
                f"Resize the images, or construct with map_size=({features.shape[2]}, {features.shape[3]})."
            )
        flat = self.flatten(self.dropout(self.input_norm(features)))
        return self.output_norm(self.linear(flat))

    def for_inference(self) -> EmbeddingHead:
        """Return a frozen copy in eval mode that is one linear layer.

        See :func:`~facemtl.layers.inference.fold_batch_norms`.
        """
        return folded_copy(self, ("input_norm", "dropout", "flatten", "linear", "output_norm"))
