"""Read ages off the logits of rank-consistent ordinal regression: CORAL and CORN."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import check_floating, check_rank
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import RankLogits


def coral_age(rank_logits: RankLogits, *, read: Literal["rank", "expectation"] = "rank") -> Tensor:
    """Age in years of CORAL's logits, each the log-odds that the age exceeds k years.

    ``"rank"``: how many of the probabilities ``σ(z_k)`` exceed ½, as in the paper, a whole number without gradient.
    ``"expectation"``: their sum, which is the expected age ``Σ_k P(age > k)``, as smooth as DEX's.

    Args:
        rank_logits: z, ``(batch, ages − 1)``, for k = 0, 1, …
        read: ``"rank"`` or ``"expectation"``.

    Returns:
        ``(batch,)`` years in [0, ``ages`` − 1], float32 (float64 for float64 logits).

    Raises:
        ShapeError: If ``rank_logits`` has not two axes.
        TypeError: If ``rank_logits`` is not floating point.
        ValueError: If ``read`` is neither of the two.

    References:
        Cao, Mirjalili and Raschka, "Rank consistent ordinal regression for neural networks with application to age
        estimation", Pattern Recognition Letters 2020.

    Example:
        >>> import torch
        >>> coral_age(torch.tensor([[4.0, 1.0, -2.0]]))
        tensor([2.])
    """
    return _read("coral_age", _checked("coral_age", rank_logits).sigmoid(), read)


def corn_age(rank_logits: RankLogits, *, read: Literal["rank", "expectation"] = "rank") -> Tensor:
    """Age in years of CORN's logits, each the log-odds that the age exceeds k years *given* that it exceeds k − 1.

    The chain rule makes ``P(age > k) = Π_{j≤k} σ(z_j)``, which falls with k whatever the logits; then as
    :func:`coral_age`.

    Args:
        rank_logits: z, ``(batch, ages − 1)``, for k = 0, 1, …
        read: ``"rank"`` (as in the paper; whole, without gradient) or ``"expectation"``.

    Returns:
        ``(batch,)`` years in [0, ``ages`` − 1], float32 (float64 for float64 logits).

    Raises:
        ShapeError: If ``rank_logits`` has not two axes.
        TypeError: If ``rank_logits`` is not floating point.
        ValueError: If ``read`` is neither of the two.

    References:
        Shi, Cao and Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
        Probabilities", Pattern Analysis and Applications 2023 (arXiv 2111.08851).

    Example:
        >>> import torch
        >>> corn_age(torch.tensor([[4.0, 1.0, 0.1, 4.0]]))  # 0.98, 0.72, 0.38, 0.37
        tensor([2.])
    """
    return _read("corn_age", F.logsigmoid(_checked("corn_age", rank_logits)).cumsum(dim=1).exp(), read)


def _checked(where: str, rank_logits: Tensor) -> Tensor:
    check_rank(where, "rank_logits", rank_logits, ("batch", "ages - 1"))
    check_floating(where, "rank_logits", rank_logits)
    return at_least_float32(rank_logits)


def _read(where: str, exceeds: Tensor, read: str) -> Tensor:
    if read not in ("rank", "expectation"):
        raise ValueError(f"{where}: 'read' must be 'rank' or 'expectation', got {read!r}.")
    return (exceeds > 0.5).sum(dim=1).to(exceeds.dtype) if read == "rank" else exceeds.sum(dim=1)
