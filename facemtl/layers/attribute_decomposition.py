"""Split a feature map into several attributes and the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_feature_map
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import FeatureMap
from facemtl.layers.attention import ChannelSpatialAttention
from facemtl.layers.decomposition import attention_mask


class DecomposedAttributes(NamedTuple):
    """The parts of a feature map; their sum is the map."""

    identity: Tensor
    """What no attribute claims."""

    attributes: dict[str, Tensor]
    """The part of each attribute, by its name."""


class MultiAttributeDecomposition(nn.Module):
    """Split a feature map into a part for each attribute (age, pose, expression…) and the identity.

    Ours: MTLFace splits off the age alone. Each attribute k has an attention of its own, whose mask ``m_k`` says how
    much of an element tells k. Read the masks as independent claims to the element, and keep the cases in which at most
    one of them holds: attribute k then gets the share ``s_k ∝ m_k Π_{j≠k} (1 − m_j)``, and the identity a share
    ``∝ Π_j (1 − m_j)``. In odds ``o_k = m_k / (1 − m_k)`` that is ``s_k = o_k / (1 + Σ_j o_j)``, the softmax of the
    masks' logits with a 0 for the identity. So the parts sum to the map, no share is negative, the order of the
    attributes does not matter, and with one of them it is
    :class:`~facemtl.layers.decomposition.AttentionFeatureDecomposition`: ``s = m``. Masks that are 1 to the last bit
    share the element evenly.

    Train each part with a head of its own, and clean the identity of each attribute with an adversary behind a
    :class:`facemtl.GradientReversal`.

    Args:
        channels: C, channels of the map.
        attributes: Their names: different identifiers, at least one, none of them ``identity``.
        attentions: Modules that map the features to a mask in [0, 1], by attribute, in place of the default
            :class:`~facemtl.layers.attention.ChannelSpatialAttention`; for some of the attributes or all.
        device: Where the parameters are made.
        dtype: Their type.

    Shape:
        - Input: ``(batch, channels, height, width)``, any size from 1×1.
        - Output: :class:`DecomposedAttributes`, each part of the input's shape.

    Raises:
        ValueError: If ``channels`` is below 1, names do not serve, or ``attentions`` has a name that is none of them.
        ShapeError: If the input has not four axes, not ``channels`` channels, or no pixel; or if the mask of an
            attention of your own does not broadcast over it.
        TypeError: If the input is not floating point.

    Note:
        In train mode the masks depend on the whole batch through their batch norms. Batches of one train.

    References:
        MTLFace (CVPR 2021), Eq. 2, is the case of one attribute.

    Example:
        >>> import torch
        >>> features = torch.randn(4, 32, 7, 7)
        >>> parts = MultiAttributeDecomposition(32, attributes=("age", "pose"))(features)
        >>> list(parts.attributes), parts.attributes["pose"].shape
        (['age', 'pose'], torch.Size([4, 32, 7, 7]))
        >>> torch.allclose(parts.identity + sum(parts.attributes.values()), features, atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int = 512,
        *,
        attributes: Sequence[str] = ("age", "pose"),
        attentions: Mapping[str, nn.Module] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"MultiAttributeDecomposition: 'channels' must be at least 1, got {channels}.")
        own = dict(attentions or {})
        self.channels = channels
        self.attributes = _checked_names(attributes, own)
        self.attentions = nn.ModuleDict(
            {
                name: own[name] if name in own else ChannelSpatialAttention(channels, device=device, dtype=dtype)
                for name in self.attributes
            }
        )

    def forward(self, features: FeatureMap) -> DecomposedAttributes:
        """Return the identity part and the part of each attribute."""
        where = f"{type(self).__name__}.forward"
        check_feature_map(where, "features", features, channels=self.channels)
        masks = [attention_mask(attention, features, where=where) for attention in self.attentions.values()]
        shares = exclusive_shares([mask.expand_as(features) for mask in masks])
        parts = {name: features * share for name, share in zip(self.attributes, shares, strict=True)}
        identity = features
        for part in parts.values():
            identity = identity - part
        return DecomposedAttributes(identity=identity, attributes=parts)

    def extra_repr(self) -> str:
        """Show channels and attributes in ``repr``."""
        return f"{self.channels}, attributes={self.attributes}"


def exclusive_shares(masks: Sequence[Tensor]) -> list[Tensor]:
    """Share of each mask if at most one of their independent claims holds: ``o_k / (1 + Σ_j o_j)`` with odds ``o``.

    In logits, where neither a mask of 0 nor masks of 1 divide by zero; in float32 at least.
    """
    dtype = masks[0].dtype
    claims = torch.stack([at_least_float32(mask) for mask in masks])
    limits = torch.finfo(claims.dtype)
    claims = claims.clamp(limits.tiny, 1.0 - 0.5 * limits.eps)
    logits = claims.log() - (-claims).log1p()
    with_rest = torch.cat([logits, torch.zeros_like(logits[:1])])
    return list(with_rest.softmax(dim=0)[:-1].to(dtype).unbind())


def _checked_names(attributes: Sequence[str], attentions: Mapping[str, nn.Module]) -> tuple[str, ...]:
    where = "MultiAttributeDecomposition"
    if isinstance(attributes, str):
        raise ValueError(
            f"{where}: 'attributes' must be a sequence of names, got {attributes!r}. Pass ({attributes!r},)."
        )
    names = tuple(attributes)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{where}: 'attributes' must be at least one name, each once, got {names}.")
    for name in names:
        if not name.isidentifier() or name == "identity" or hasattr(nn.ModuleDict, name):
            raise ValueError(
                f"{where}: 'attributes' must be identifiers other than 'identity' and the methods of nn.ModuleDict, "
                f"got {name!r}."
            )
    if unknown := sorted(set(attentions) - set(names)):
        raise ValueError(f"{where}: 'attentions' must be for attributes out of {names}, got {unknown}.")
    return names
