"""Split a feature map into what tells the age and what tells the person."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_feature_map, shape_text
from facemtl._core.shapes import FeatureMap
from facemtl.layers.attention import ChannelSpatialAttention


class DecomposedFeatures(NamedTuple):
    """The two parts of a feature map; their sum is the map."""

    identity: Tensor
    """X_id, what tells the person."""

    age: Tensor
    """X_age, what tells the age."""


class AttentionFeatureDecomposition(nn.Module):
    """Split a feature map into an age part and an identity part by an attention mask.

    ``age = x ∘ σ(x)`` and ``identity = x − age``, that is ``x ∘ (1 − σ(x))``: the mask says for each element how much
    of it tells the age, and the identity keeps the rest, so the parts sum to the map (to the rounding of the last bit).
    σ is by default the average of a channel and a spatial attention. In the journal version the mask selects the
    identity, and the channel attention concatenates its pyramids: :meth:`journal2022`.

    Args:
        channels: C, channels of the map.
        attention: A module that maps the features to a mask in [0, 1] that broadcasts over them, instead of
            :class:`~facemtl.layers.attention.ChannelSpatialAttention`: also
            :class:`~facemtl.layers.attention.ChannelAttention` or
            :class:`~facemtl.layers.attention.SpatialAttention` alone, :class:`~facemtl.layers.cbam.CBAM`, or your own.
        mask_selects: The part that the mask multiplies, ``"age"`` (CVPR) or ``"identity"`` (journal).
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)``, any size from 1×1.
        - Output: :class:`DecomposedFeatures`, each part of the input's shape.

    Raises:
        ValueError: If ``channels`` is below 1 or ``mask_selects`` is neither of the two.
        ShapeError: If the input has not four axes, not ``channels`` channels, or no pixel; or if the mask of an
            ``attention`` of your own does not broadcast over it.
        TypeError: If the input is not floating point.

    Note:
        In train mode the mask depends on the whole batch through its batch norms. Batches of one train, by the running
        statistics where they have none of their own.

    References:
        Huang, Zhang and Shan, "When Age-Invariant Face Recognition Meets Face Age Synthesis: A Multi-Task Learning
        Framework", CVPR 2021, Eq. 2; and TPAMI 2022 (arXiv 2210.09835).

    Example:
        >>> import torch
        >>> features = torch.randn(4, 32, 7, 7)
        >>> parts = AttentionFeatureDecomposition(32)(features)
        >>> torch.allclose(parts.identity + parts.age, features, atol=1e-6)
        True
    """

    def __init__(
        self,
        channels: int = 512,
        *,
        attention: nn.Module | None = None,
        mask_selects: Literal["age", "identity"] = "age",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"AttentionFeatureDecomposition: 'channels' must be at least 1, got {channels}.")
        if mask_selects not in ("age", "identity"):
            raise ValueError(
                f"AttentionFeatureDecomposition: 'mask_selects' must be 'age' or 'identity', got {mask_selects!r}."
            )
        self.channels = channels
        self.mask_selects = mask_selects
        self.attention = (
            attention if attention is not None else ChannelSpatialAttention(channels, device=device, dtype=dtype)
        )

    @classmethod
    def code2021(
        cls,
        channels: int = 512,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AttentionFeatureDecomposition:
        """As in the authors' CVPR training code, which here does what the paper says: the default."""
        return cls(channels, device=device, dtype=dtype)

    @classmethod
    def journal2022(
        cls,
        channels: int = 512,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AttentionFeatureDecomposition:
        """As in the journal version: pyramids concatenated, and the mask selects the identity."""
        attention = ChannelSpatialAttention(channels, pyramids="concatenated", device=device, dtype=dtype)
        return cls(channels, attention=attention, mask_selects="identity")

    def forward(self, features: FeatureMap) -> DecomposedFeatures:
        """Return the identity part and the age part of ``features``."""
        check_feature_map(f"{type(self).__name__}.forward", "features", features, channels=self.channels)
        selected = features * attention_mask(self.attention, features, where=f"{type(self).__name__}.forward")
        if self.mask_selects == "age":
            return DecomposedFeatures(identity=features - selected, age=selected)
        return DecomposedFeatures(identity=selected, age=features - selected)

    def extra_repr(self) -> str:
        """Show channels and what the mask selects in ``repr``."""
        return f"{self.channels}, mask_selects={self.mask_selects!r}"


def attention_mask(attention: nn.Module, features: Tensor, *, where: str) -> Tensor:
    """Mask of ``features``, in their dtype; refuse one that does not broadcast over them, as `(batch, channels)`."""
    mask = attention(features)
    if mask.dim() != 4 or any(size not in (1, full) for size, full in zip(mask.shape, features.shape, strict=True)):
        raise ShapeError(
            f"{where}: the mask of 'attention' must broadcast over (batch, channels, height, width) = "
            f"{shape_text(features)}, got {shape_text(mask)}."
        )
    return mask.to(features.dtype)
