"""Margin heads with one constant margin: CosFace and ArcFace."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.angular import PastPi, angular_margin
from facemtl.heads.cosine import check_options, check_range, identity_weight
from facemtl.heads.cross_entropy import Reduction, head_logits, head_loss


class CosFace(nn.Module):
    r"""CosFace: softmax over scaled cosines, from whose target a constant is subtracted. MTLFace's identity loss.

    .. math::
        \ell = -\log\frac{e^{s(\cos\theta_y - m)}}{e^{s(\cos\theta_y - m)} + \sum_{j\ne y} e^{s\cos\theta_j}}

    Embeddings and weights are normalised inside, in float32 or wider whatever autocast says. With margin 0 it is a
    plain scaled softmax. From 4096 identities on the loss takes the memory-lean way of
    :func:`facemtl.heads.cross_entropy.cosine_cross_entropy`.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in MTLFace.
        margin: m, subtracted from the target's cosine, at least 0; 0.35 in the paper and in MTLFace.
        lean: Whether the loss avoids a batch × identities matrix; None decides by ``num_identities``.
        device: Where the weight lives.
        dtype: Of the weight.

    Attributes:
        weight: One row for each identity, ``(num_identities, dimension)``, drawn from N(0, 0.01²).

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss; :meth:`logits` ``(batch, num_identities)``.

    Raises:
        ValueError: If an option, a label or (on CPU) an embedding is not what is said above.

    Note:
        Training: the mean loss of an empty batch is 0. An embedding shorter than 1/128 is divided by 1/128, so that the
        gradient of a zero embedding is bounded.

    References:
        Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018.

    Example:
        >>> import torch
        >>> head = CosFace(16, 10)
        >>> embeddings, labels = torch.randn(4, 16), torch.tensor([0, 3, 9, 3])
        >>> head(embeddings, labels).shape, head.logits(embeddings).shape
        (torch.Size([]), torch.Size([4, 10]))
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin: float = 0.35,
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("CosFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("CosFace", "margin", margin, 0.0, 2.0)
        self.dimension, self.num_identities = dimension, num_identities
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        return head_loss(
            "CosFace.forward",
            embeddings,
            self.weight,
            labels,
            self._with_margin,
            scale=self.scale,
            lean=self.lean,
            reduction=reduction,
        )

    def logits(self, embeddings: Embeddings, labels: IdentityLabels | None = None) -> Tensor:
        """Return scaled cosines with all identities; with ``labels``, the margin is on each sample's own."""
        return head_logits("CosFace.logits", embeddings, self.weight, labels, self._with_margin, scale=self.scale)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}"

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return cosines - self.margin


class ArcFace(nn.Module):
    r"""ArcFace: softmax over scaled cosines, whose target angle is enlarged by a constant.

    .. math::
        \ell = -\log\frac{e^{s\cos(\theta_y + m)}}{e^{s\cos(\theta_y + m)} + \sum_{j\ne y} e^{s\cos\theta_j}}

    The equation says nothing of angles beyond π - m, where the cosine rises again; ``past_pi`` does. At a cosine of ±1
    the gradient is that of the nearest cosine that can be represented, not zero and not the plain cosine's.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in the paper.
        margin: m in radians, in [0, π]; 0.5 in the paper.
        past_pi: ``"linear"`` as the usual code does, ``"fold"`` (continuous) or ``"wrap"`` (the bare equation); see
            :func:`facemtl.heads.angular.angular_margin`.
        lean: Whether the loss avoids a batch × identities matrix; None decides by ``num_identities``.
        device: Where the weight lives.
        dtype: Of the weight.

    Attributes:
        weight: One row for each identity, ``(num_identities, dimension)``, drawn from N(0, 0.01²).

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss; :meth:`logits` ``(batch, num_identities)``.

    Raises:
        ValueError: If an option, a label or (on CPU) an embedding is not what is said above.

    Note:
        Training: as :class:`CosFace`.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, Eq. 3.

    Example:
        >>> import torch
        >>> head = ArcFace(16, 10, margin=0.3)
        >>> head(torch.randn(4, 16), torch.tensor([0, 3, 9, 3]), reduction="none").shape
        torch.Size([4])
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin: float = 0.5,
        past_pi: PastPi = "linear",
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("ArcFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("ArcFace", "margin", margin, 0.0, math.pi)
        if past_pi not in ("linear", "fold", "wrap"):
            raise ValueError(f"ArcFace: 'past_pi' must be 'linear', 'fold' or 'wrap', got {past_pi!r}.")
        self.dimension, self.num_identities, self.past_pi = dimension, num_identities, past_pi
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        return head_loss(
            "ArcFace.forward",
            embeddings,
            self.weight,
            labels,
            self._with_margin,
            scale=self.scale,
            lean=self.lean,
            reduction=reduction,
        )

    def logits(self, embeddings: Embeddings, labels: IdentityLabels | None = None) -> Tensor:
        """Return scaled cosines with all identities; with ``labels``, the margin is on each sample's own."""
        return head_logits("ArcFace.logits", embeddings, self.weight, labels, self._with_margin, scale=self.scale)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}"

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return angular_margin(cosines, self.margin, past_pi=self.past_pi)
