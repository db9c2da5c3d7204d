"""Margin heads that read image quality from an embedding's norm: AdaFace and MagFace."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.precision import without_autocast
from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.angular import angle_of, angular_margin
from facemtl.heads.cosine import (
    check_momentum,
    check_options,
    check_positive,
    check_range,
    cosine_matrix,
    identity_weight,
)
from facemtl.heads.cross_entropy import Reduction, head_directions, margin_losses, reduce, with_target_margin


class AdaFace(nn.Module):
    r"""AdaFace: the larger an embedding's norm among its batch, the more its margin stresses hard samples.

    With :math:`\hat z = \operatorname{clip}(h\,(\lVert e\rVert - \mu) / (\sigma + 0.001), -1, 1)`, where μ and σ are
    running statistics of the norms, the target logit is

    .. math:: s\bigl(\cos(\theta_y - m\hat z) - (m + m\hat z)\bigr),

    ArcFace at ẑ = -1, CosFace at 0 and a negative angular margin at 1. The angle is clipped to [0, π], as in the
    released code (to 0.001 inside of it there). The norms pass no gradient.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in the paper.
        margin: m, in [0, 1.5]; 0.4 in the paper.
        concentration: h, positive; 0.333 in the paper.
        momentum: Weight of the past in the running statistics, in [0, 1); 0.99 in the paper.
        lean: Whether the loss avoids a batch × identities matrix; None decides by ``num_identities``.
        device: Where weight and statistics live.
        dtype: Of both.

    Attributes:
        weight: One row for each identity, ``(num_identities, dimension)``, drawn from N(0, 0.01²).
        norm_mean: μ, a buffer; 20 at the start.
        norm_std: σ, a buffer; 100 at the start, so that margins start out near CosFace's.

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss; :meth:`logits` ``(batch, num_identities)``.

    Raises:
        ValueError: If an option, a label or (on CPU) an embedding is not what is said above.

    Note:
        Training: :meth:`forward` updates the statistics in train mode, before it uses them, from batches of 2 and more
        (one norm has no deviation); :meth:`logits` never does. Norms are clipped to [0.001, 100] before.

    References:
        Kim et al., "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022, Eq. 15 to 18.

    Example:
        >>> import torch
        >>> head = AdaFace(16, 10)
        >>> loss = head(8.0 * torch.randn(4, 16), torch.tensor([0, 3, 9, 3]))
        >>> bool(head.norm_mean != 20.0)
        True
    """

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin: float = 0.4,
        concentration: float = 0.333,
        momentum: float = 0.99,
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("AdaFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("AdaFace", "margin", margin, 0.0, 1.5)
        check_positive("AdaFace", "concentration", concentration)
        check_momentum("AdaFace", momentum)
        self.dimension, self.num_identities = dimension, num_identities
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.concentration, self.momentum = float(concentration), float(momentum)
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)
        self.register_buffer("norm_mean", torch.full((), 20.0, device=device, dtype=dtype))
        self.register_buffer("norm_std", torch.full((), 100.0, device=device, dtype=dtype))

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        with without_autocast(embeddings):
            unit, norms = head_directions("AdaFace.forward", embeddings, self.weight, labels)
            norms = norms.detach().clamp(0.001, 100.0)
            if self.training and norms.shape[0] > 1:
                self._track(norms)
            losses = margin_losses(
                unit,
                self.weight,
                labels.long(),
                lambda cosines: self._with_margin(cosines, norms),
                scale=self.scale,
                lean=self.lean,
            )
            return reduce(losses, reduction)

    def logits(self, embeddings: Embeddings, labels: IdentityLabels | None = None) -> Tensor:
        """Return scaled cosines with all identities; with ``labels``, the margin is on each sample's own."""
        with without_autocast(embeddings):
            unit, norms = head_directions("AdaFace.logits", embeddings, self.weight, labels)
            cosines = cosine_matrix(unit, self.weight)
            if labels is not None:
                norms = norms.detach().clamp(0.001, 100.0)
                cosines = with_target_margin(cosines, labels.long(), lambda c: self._with_margin(c, norms))
            return self.scale * cosines

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}, "
            f"concentration={self.concentration:g}, momentum={self.momentum:g}"
        )

    def _track(self, norms: Tensor) -> None:
        with torch.no_grad():
            self.norm_mean.lerp_(norms.mean().to(self.norm_mean), 1.0 - self.momentum)
            self.norm_std.lerp_(norms.std().to(self.norm_std), 1.0 - self.momentum)

    def _with_margin(self, cosines: Tensor, norms: Tensor) -> Tensor:
        quality = ((norms - self.norm_mean) / (self.norm_std + 0.001) * self.concentration).clamp(-1.0, 1.0)
        angles = (angle_of(cosines) - self.margin * quality).clamp(0.0, torch.pi)
        return angles.cos() - self.margin * (1.0 + quality)


class MagFace(nn.Module):
    r"""MagFace: an angular margin that grows with the embedding's norm, and a term that wants norms to grow.

    With the norm a clipped to ``norm_range`` [l_a, u_a] and ``margin_range`` [l_m, u_m],

    .. math::
        m(a) = l_m + (u_m - l_m)\frac{a - l_a}{u_a - l_a}, \quad
        g(a) = \frac{1}{a} + \frac{a}{u_a^2}, \quad
        \ell = -\log\frac{e^{s\cos(\theta_y + m(a))}}{e^{s\cos(\theta_y + m(a))} + \sum_{j\ne y} e^{s\cos\theta_j}}
        + \lambda_g\,g(a).

    After training the norm tells image quality. Outside the range the clip stops the norm's gradient, as in the
    released code. Past π the target falls back as in :class:`facemtl.heads.margin.ArcFace` (``"linear"``).

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in the paper.
        margin_range: l_m and u_m in radians; 0.45 and 0.8 in the released code.
        norm_range: l_a and u_a; 10 and 110 in the paper.
        norm_weight: λ_g, at least 0; 35 in the released code.
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
        Training: norms must be free to grow, so put no normalisation with a fixed scale behind the embedding.

    References:
        Meng et al., "MagFace: A Universal Representation for Face Recognition and Quality Assessment", CVPR 2021.

    Example:
        >>> import torch
        >>> head = MagFace(16, 10)
        >>> embeddings = (8.0 * torch.randn(4, 16)).requires_grad_()
        >>> head(embeddings, torch.tensor([0, 3, 9, 3])).backward()
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin_range: tuple[float, float] = (0.45, 0.8),
        norm_range: tuple[float, float] = (10.0, 110.0),
        norm_weight: float = 35.0,
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("MagFace", dimension=dimension, num_identities=num_identities, scale=scale)
        if not 0.0 <= margin_range[0] <= margin_range[1] <= torch.pi:
            raise ValueError(f"MagFace: 'margin_range' must rise within [0, π], got {margin_range}.")
        if not 0.0 < norm_range[0] < norm_range[1] < float("inf"):
            raise ValueError(f"MagFace: 'norm_range' must rise and be positive, got {norm_range}.")
        check_range("MagFace", "norm_weight", norm_weight, 0.0, 1e6)
        self.dimension, self.num_identities = dimension, num_identities
        self.scale, self.norm_weight, self.lean = float(scale), float(norm_weight), lean
        self.margin_range, self.norm_range = margin_range, norm_range
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        with without_autocast(embeddings):
            unit, norms = head_directions("MagFace.forward", embeddings, self.weight, labels)
            norms = norms.clamp(*self.norm_range)
            losses = margin_losses(
                unit,
                self.weight,
                labels.long(),
                lambda cosines: angular_margin(cosines, self._margins(norms)),
                scale=self.scale,
                lean=self.lean,
            )
            growth = 1.0 / norms + norms / self.norm_range[1] ** 2
            return reduce(losses + self.norm_weight * growth, reduction)

    def logits(self, embeddings: Embeddings, labels: IdentityLabels | None = None) -> Tensor:
        """Return scaled cosines with all identities; with ``labels``, the margin is on each sample's own."""
        with without_autocast(embeddings):
            unit, norms = head_directions("MagFace.logits", embeddings, self.weight, labels)
            cosines = cosine_matrix(unit, self.weight)
            if labels is not None:
                margins = self._margins(norms.clamp(*self.norm_range))
                cosines = with_target_margin(cosines, labels.long(), lambda c: angular_margin(c, margins))
            return self.scale * cosines

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin_range={self.margin_range}, "
            f"norm_range={self.norm_range}, norm_weight={self.norm_weight:g}"
        )

    def _margins(self, norms: Tensor) -> Tensor:
        (low_margin, high_margin), (low, high) = self.margin_range, self.norm_range
        return low_margin + (high_margin - low_margin) / (high - low) * (norms - low)
