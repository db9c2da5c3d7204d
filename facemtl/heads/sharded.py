"""Margin heads whose identities are split over processes."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.angular import PastPi, angular_margin
from facemtl.heads.cosine import check_options, check_range
from facemtl.heads.cross_entropy import Reduction
from facemtl.heads.sharded_loss import check_fraction, in_group, sharded_loss
from facemtl.heads.sharded_weight import split_full_weight, split_weight


class ShardedCosFace(nn.Module):
    r"""CosFace whose identities are split over the processes of a group: the same loss to the last digits.

    No process holds the whole weight, its gradient or momentum, or a matrix of global batch × all identities. Every
    process contrasts the embeddings of all with its own identities; a maximum and a sum over the processes of

    .. math::
        L = \log\sum_p e^{L_p}, \qquad \ell = \operatorname{softplus}\bigl(L - s(\cos\theta_y - m)\bigr)

    with the log-sum-exp :math:`L_p` of the negatives of process p give the exact softmax. Computed in float32 or wider,
    whatever autocast says. In one process, with no group, it is :class:`facemtl.CosFace`.

    Gradients are those of data parallelism. With one loss a process, the mean of its own batch, the weight's gradient
    is that of the mean of the *global* batch; the embeddings' is that of this process's loss, as
    ``DistributedDataParallel`` wants it to average an encoder's gradients over the processes. Encoder and weight thus
    get exactly what one process would give them. The head itself stays outside ``DistributedDataParallel``.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart over all processes, at least 2; any number, also fewer than processes.
        scale: s; 64 in MTLFace.
        margin: m, at least 0; 0.35 in MTLFace.
        sample_fraction: Share of its identities, in (0, 1], that each process draws anew at each call, from torch's
            default generator: those of the batch surely, others uniformly. Below 1 it is Partial FC: the softmax is
            over the drawn ones, the gradient of all others 0. More are drawn where the global batch wants it.
        lean: Whether to avoid a global batch × own identities matrix; None decides by ``num_identities``.
        group: The processes that share the identities; None takes all.
        seed: Of the initial weight; None takes one from torch's default generator (that of the group's first process).
        device: Where the weight lives: the device on which this process trains.
        dtype: Of the weight.

    Attributes:
        weight: One row for each identity, ``(num_identities, dimension)``, drawn from N(0, 0.01²) with values that do
            not depend on the number of processes. With several processes a DTensor of which each holds
            ⌈identities / processes⌉ rows (the last ones fewer); with one an ordinary tensor. State dicts are the same,
            so that ``torch.distributed.checkpoint`` saves and loads them with any number of processes.

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss of *this* process's samples.

    Raises:
        ValueError: If an option is not what is said above. If a label, a non-finite embedding (on CPU) or the size of a
            batch on *any* process is not, then on every process, instead of leaving the others waiting.

    Note:
        Training: :meth:`forward` and the backward pass are collectives, to be run by all processes with batches of one
        size. Give the head a parameter group of its own, with ``fused=False``: SGD neither mixes DTensors and tensors
        nor has a fused step for DTensors. Momentum and weight decay act on identities that were not drawn, too.

    References:
        Wang et al., "CosFace", CVPR 2018; An et al., "Killing Two Birds with One Stone: Efficient and Robust Training
        of Face Recognition CNNs by Partial FC", CVPR 2022.

    Example:
        >>> import torch
        >>> head = ShardedCosFace(16, 10)  # under torchrun each process makes its share
        >>> head(torch.randn(4, 16), torch.tensor([0, 3, 9, 3])).shape
        torch.Size([])
    """

    def __init__(
        self,
        dimension: int,
        num_identities: int,
        *,
        scale: float = 64.0,
        margin: float = 0.35,
        sample_fraction: float = 1.0,
        lean: bool | None = None,
        group: dist.ProcessGroup | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("ShardedCosFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("ShardedCosFace", "margin", margin, 0.0, 2.0)
        check_fraction("ShardedCosFace", sample_fraction)
        self.dimension, self.num_identities = dimension, num_identities
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.sample_fraction = float(sample_fraction)
        self._made_before_group = not in_group()
        self.weight = split_weight(
            "ShardedCosFace", num_identities, dimension, group=group, seed=seed, device=device, dtype=dtype
        )
        self.register_load_state_dict_pre_hook(split_full_weight)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss of this process's samples; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``."""
        return sharded_loss(
            "ShardedCosFace.forward",
            embeddings,
            self.weight,
            labels,
            self._with_margin,
            scale=self.scale,
            lean=self.lean,
            fraction=self.sample_fraction,
            reduction=reduction,
            made_before_group=self._made_before_group,
        )

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}, "
            f"sample_fraction={self.sample_fraction:g}"
        )

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return cosines - self.margin


class ShardedArcFace(nn.Module):
    r"""ArcFace whose identities are split over the processes of a group.

    :class:`ShardedCosFace` with the target logit :math:`s\cos(\theta_y + m)`; all that is said there holds here. In one
    process, with no group, it is :class:`facemtl.ArcFace`.

    Args:
        dimension: Length of an embedding.
        num_identities: People to tell apart over all processes, at least 2.
        scale: s; 64 in the paper.
        margin: m in radians, in [0, π]; 0.5 in the paper.
        past_pi: ``"linear"``, ``"fold"`` or ``"wrap"``; see :func:`facemtl.heads.angular.angular_margin`.
        sample_fraction: Share of its identities, in (0, 1], that each process draws anew at each call.
        lean: Whether to avoid a global batch × own identities matrix; None decides by ``num_identities``.
        group: The processes that share the identities; None takes all.
        seed: Of the initial weight; None takes one from torch's default generator.
        device: Where the weight lives: the device on which this process trains.
        dtype: Of the weight.

    Attributes:
        weight: As :class:`ShardedCosFace`'s.

    Shape:
        - embeddings: ``(batch, dimension)``; labels: ``(batch,)`` in [0, num_identities), int64 or int32.
        - Output: scalar loss of *this* process's samples.

    Raises:
        ValueError: As :class:`ShardedCosFace`.

    Note:
        Training: as :class:`ShardedCosFace`.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, Eq. 3.

    Example:
        >>> import torch
        >>> head = ShardedArcFace(16, 10, margin=0.3, sample_fraction=0.5)
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
        sample_fraction: float = 1.0,
        lean: bool | None = None,
        group: dist.ProcessGroup | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options("ShardedArcFace", dimension=dimension, num_identities=num_identities, scale=scale)
        check_range("ShardedArcFace", "margin", margin, 0.0, math.pi)
        if past_pi not in ("linear", "fold", "wrap"):
            raise ValueError(f"ShardedArcFace: 'past_pi' must be 'linear', 'fold' or 'wrap', got {past_pi!r}.")
        check_fraction("ShardedArcFace", sample_fraction)
        self.dimension, self.num_identities, self.past_pi = dimension, num_identities, past_pi
        self.scale, self.margin, self.lean = float(scale), float(margin), lean
        self.sample_fraction = float(sample_fraction)
        self._made_before_group = not in_group()
        self.weight = split_weight(
            "ShardedArcFace", num_identities, dimension, group=group, seed=seed, device=device, dtype=dtype
        )
        self.register_load_state_dict_pre_hook(split_full_weight)

    def forward(self, embeddings: Embeddings, labels: IdentityLabels, *, reduction: Reduction = "mean") -> Tensor:
        """Return the loss of this process's samples; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``."""
        return sharded_loss(
            "ShardedArcFace.forward",
            embeddings,
            self.weight,
            labels,
            self._with_margin,
            scale=self.scale,
            lean=self.lean,
            fraction=self.sample_fraction,
            reduction=reduction,
            made_before_group=self._made_before_group,
        )

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return (
            f"{self.dimension}, {self.num_identities}, scale={self.scale:g}, margin={self.margin:g}, "
            f"sample_fraction={self.sample_fraction:g}"
        )

    def _with_margin(self, cosines: Tensor) -> Tensor:
        return angular_margin(cosines, self.margin, past_pi=self.past_pi)
