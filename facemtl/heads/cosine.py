"""What every margin head shares: directions, cosines and checks, in float32 whatever autocast says."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.checks import check_finite, check_floating, check_indices, check_rank, check_size

EMBEDDING_FLOOR = 2.0**-7
"""Embeddings shorter than this are divided by it, which keeps the gradient of a zero embedding bounded."""

WEIGHT_FLOOR = 2.0**-13
"""The same for the identities' weights, whose norms are smaller (0.01 times the root of the dimension at the start)."""


class Directions(NamedTuple):
    """Rows split into direction and length."""

    unit: Tensor
    """Rows of unit norm, ``(rows, dimension)``; shorter only where the norm is below the floor."""
    norms: Tensor
    """Euclidean norms before the division, ``(rows,)``."""


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the widest dtype among ``tensors``, and float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def directions(rows: Tensor, *, floor: float, dtype: torch.dtype) -> Directions:
    """Split ``rows`` into directions and norms; the direction of a zero row is zero, with gradient ``1 / floor``."""
    rows = rows.to(dtype)
    norms = torch.linalg.vector_norm(rows, dim=1)
    return Directions(rows / norms.clamp(min=floor).unsqueeze(1), norms)


def cosine_matrix(unit: Tensor, weight: Tensor) -> Tensor:
    """Cosines between ``unit`` rows and the rows of ``weight``: ``(batch, identities)``."""
    return F.linear(unit, directions(weight, floor=WEIGHT_FLOOR, dtype=unit.dtype).unit)


def target_cosines(unit: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Cosines between ``unit`` rows and the weights of their own identities: ``(batch,)``."""
    return (unit * directions(weight[labels], floor=WEIGHT_FLOOR, dtype=unit.dtype).unit).sum(1)


def identity_weight(
    num_identities: int, dimension: int, *, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Parameter:
    """One row for each identity, drawn from N(0, 0.01²)."""
    weight = nn.Parameter(torch.empty(num_identities, dimension, device=device, dtype=dtype))
    nn.init.normal_(weight, std=0.01)
    return weight


def check_options(where: str, *, dimension: int, num_identities: int, scale: float) -> None:
    """Check the numbers that every head is built from."""
    if dimension < 1:
        raise ValueError(f"{where}: 'dimension' must be at least 1, got {dimension}.")
    if num_identities < 2:
        raise ValueError(f"{where}: 'num_identities' must be at least 2, got {num_identities}. One needs no telling.")
    check_positive(where, "scale", scale)


def check_positive(where: str, name: str, value: float) -> None:
    """Raise :class:`ValueError` unless ``value`` is finite and above 0."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{where}: '{name}' must be positive and finite, got {value}.")


def check_range(where: str, name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`ValueError` unless ``value`` lies in [``low``, ``high``]."""
    if not low <= value <= high:
        raise ValueError(f"{where}: '{name}' must lie in [{low:.4g}, {high:.4g}], got {value}.")


def check_momentum(where: str, momentum: float) -> None:
    """Raise :class:`ValueError` unless ``momentum`` lies in [0, 1)."""
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"{where}: 'momentum' must lie in [0, 1), got {momentum}.")


def check_embedding_shape(where: str, embeddings: Tensor, dimension: int) -> None:
    """Check ``(batch, dimension)`` floating-point embeddings, not their values."""
    advice = "Add a batch axis with embeddings.unsqueeze(0)." if embeddings.dim() == 1 else ""
    check_rank(where, "embeddings", embeddings, ("batch", "dimension"), advice=advice)
    check_floating(where, "embeddings", embeddings)
    check_size(where, "embeddings", embeddings, 1, "dimension", dimension)


def check_embeddings(where: str, embeddings: Tensor, dimension: int) -> None:
    """Check ``(batch, dimension)`` finite floating-point embeddings."""
    check_embedding_shape(where, embeddings, dimension)
    check_finite(where, "embeddings", embeddings.detach())


def check_labels(where: str, labels: Tensor, *, batch: int, num_identities: int) -> None:
    """Check ``(batch,)`` identity indices."""
    check_indices(where, "labels", labels, batch=batch, limit=num_identities, limit_name="num_identities")
