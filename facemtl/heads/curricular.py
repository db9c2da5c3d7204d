"""CurricularFace: a margin head whose hard negatives weigh more as training succeeds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from facemtl._core.precision import without_autocast
from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.angular import angular_margin
from facemtl.heads.cosine import (
    check_momentum,
    check_options,
    check_range,
    cosine_matrix,
    identity_weight,
    target_cosines,
)
from facemtl.heads.cross_entropy import (
    Reduction,
    hardened,
    head_directions,
    margin_losses,
    reduce,
    with_target_margin,
)
from facemtl.heads.lean import HardNegatives


class CurricularFace(nn.Module):
    r"""CurricularFace: ArcFace whose hard negatives are re-weighted, first down and later up.

    A negative is hard where its cosine exceeds the target's with margin; it then counts as

    .. math:: N(t, \cos\theta_j) = \cos\theta_j\,(t + \cos\theta_j)
        \quad\text{if } \cos\theta_j > \cos(\theta_y + m),

    and t is a running mean of the target cosines: near 0 at first, near 1 when training has succeeded. Which negatives
    are hard, and t, pass no gradient. Past π the target falls back as in :class:`facemtl.heads.margin.ArcFace`.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart, at least 2.
        scale: s; 64 in the paper.
        margin: m in radians, in [0, π]; 0.5 in the paper.
        momentum: Weight of the past in t, in [0, 1); 0.99 in the released code. (Read literally, the paper's
            equation gives 0.99 to the new value.)
        lean: Whether the loss avoids a batch × identities matrix; None decides by ``num_identities``.
        device: Where weight and t live.
        dtype: Of both.

    Attributes:
        weight: One row for each identity, ``(num_identities, dimension)``, drawn from N(0, 0.01²).
        hardness: t, a buffer; 0 at the start.

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss; :meth:`logits` ``(batch, num_identities)``.

    Raises:
        ValueError: If an option, a label or (on CPU) an embedding is not what is said above.

    Note:
        Training: :meth:`forward` updates t in train mode, before it uses it; :meth:`logits` never does.

    References:
        Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition", CVPR 2020.

    Example:
        >>> import torch
        >>> head = CurricularFace(16, 10)
        >>> loss = head(torch.randn(4, 16), torch.tensor([0, 3, 9, 3]))
        >>> bool(head.hardness != 0.0)
        True
    """

    hardness: Tensor

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin: float = 0.5,
        momentum: float = 0.99,
        lean: bool | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("CurricularFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("CurricularFace", "margin", margin, 0.0, math.pi)
        check_momentum("CurricularFace", momentum)
        self.dimension, self.num_identities, self.momentum = dimension, num_identities, float(momentum)
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.weight = identity_weight(num_identities, dimension, device=device, dtype=dtype)
        self.register_buffer("hardness", torch.zeros((), device=device, dtype=dtype))

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` (one loss for each sample)."""
        with without_autocast(embeddings):
            unit, _ = head_directions("CurricularFace.forward", embeddings, self.weight, labels)
            labels = labels.long()
            with torch.no_grad():
                targets = target_cosines(unit, self.weight, labels)
                if self.training and targets.shape[0] > 0:
                    self.hardness.lerp_(targets.mean().to(self.hardness), 1.0 - self.momentum)
            losses = margin_losses(
                unit,
                self.weight,
                labels,
                self._with_margin,
                scale=self.scale,
                lean=self.lean,
                hard=HardNegatives(self._thresholds(targets), self.hardness.to(unit.dtype, copy=True)),
            )
            return reduce(losses, reduction)

    def logits(self, embeddings: Embeddings, labels: IdentityLabels | None = None) -> Tensor:
        """Return scaled cosines with all identities; with ``labels``, with margin and hard negatives re-weighted."""
        with without_autocast(embeddings):
            unit, _ = head_directions("CurricularFace.logits", embeddings, self.weight, labels)
            cosines = cosine_matrix(unit, self.weight)
            if labels is None:
                return self.scale * cosines
            columns = labels.long().unsqueeze(1)
            targets = cosines.gather(1, columns)
            hard = HardNegatives(self._thresholds(targets.detach().squeeze(1)), self.hardness.to(unit.dtype))
            cosines = hardened(cosines, hard).scatter(1, columns, targets)
            return self.scale * with_target_margin(cosines, labels.long(), self._with_margin)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}, "
            f"momentum={self.momentum:g}"
        )

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return angular_margin(cosines, self.margin)

    def _thresholds(self, cosines: Tensor) -> Tensor:
        return angular_margin(cosines, self.margin, past_pi="wrap")
