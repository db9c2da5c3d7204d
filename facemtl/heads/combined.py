"""The combined margin: SphereFace's multiplier, ArcFace's angle and CosFace's cosine in one head."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.angular import angular_margin
from facemtl.heads.cosine import check_options, check_range, identity_weight
from facemtl.heads.cross_entropy import Reduction, head_logits, head_loss


class CombinedMargin(nn.Module):
    r"""The combined margin of ArcFace's paper: target logit :math:`s(\cos(m_1\theta_y + m_2) - m_3)`.

    ``(1, 0, m)`` is CosFace, ``(1, m, 0)`` ArcFace, ``(m, 0, 0)`` SphereFace in its angular form.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in the paper.
        multiplier: m₁, at least 1; 1 in the paper's best combination.
        angle: m₂ in radians, in [0, π]; 0.3 there.
        cosine: m₃, at least 0; 0.2 there.
        past_pi: ``"fold"``, SphereFace's continuous continuation, or ``"wrap"``, the bare equation.
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
        Training: as :class:`facemtl.heads.margin.CosFace`.

    References:
        Deng et al., "ArcFace", CVPR 2019, Eq. 4; Liu et al., "SphereFace", CVPR 2017, Eq. 7 (the continuation past π).

    Example:
        >>> import torch
        >>> head = CombinedMargin(16, 10, multiplier=1.0, angle=0.3, cosine=0.2)
        >>> bool(head(torch.randn(4, 16), torch.tensor([0, 3, 9, 3])) > 0)
        True
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        multiplier: float = 1.0,
        angle: float = 0.3,
        cosine: float = 0.2,
        past_pi: Literal["fold", "wrap"] = "fold",
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("CombinedMargin", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("CombinedMargin", "multiplier", multiplier, 1.0, 8.0)
        check_range("CombinedMargin", "angle", angle, 0.0, math.pi)
        check_range("CombinedMargin", "cosine", cosine, 0.0, 2.0)
        if past_pi not in ("fold", "wrap"):
            raise ValueError(f"CombinedMargin: 'past_pi' must be 'fold' or 'wrap', got {past_pi!r}.")
        self.dimension, self.num_identities, self.past_pi = dimension, num_identities, past_pi
        self.scale, self.lean = float(scale), lean
        self.multiplier, self.angle, self.cosine = float(multiplier), float(angle), float(cosine)
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        return head_loss(
            "CombinedMargin.forward",
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
        return head_logits(
            "CombinedMargin.logits", embeddings, self.weight, labels, self._with_margin, scale=self.scale
        )

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, multiplier={self.multiplier:g}, "
            f"angle={self.angle:g}, cosine={self.cosine:g}"
        )

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return angular_margin(cosines, self.angle, multiplier=self.multiplier, past_pi=self.past_pi) - self.cosine
