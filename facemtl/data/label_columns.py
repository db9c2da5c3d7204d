"""Columns of labels as samplers take them: whatever array the caller has, checked, and what is unknown told apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facemtl.layers.age import AgeGroups, exceeded_edges

Labels = Tensor | npt.NDArray[np.integer] | npt.NDArray[np.floating] | Sequence[int] | Sequence[float]


def label_column(where: str, name: str, labels: Labels, *, length: int | None = None) -> npt.NDArray[Any]:
    """One label a face, as a NumPy array of one axis.

    Raises:
        ValueError: If it has not one axis, no face, or another length than other labels.
        TypeError: If the labels are no numbers.
    """
    column = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if column.ndim != 1 or len(column) == 0:
        raise ValueError(
            f"{where}: '{name}' must have shape (faces,) with at least one face, got shape {column.shape}."
        )
    if length is not None and len(column) != length:
        raise ValueError(f"{where}: '{name}' must have {length} labels as the others do, got {len(column)}.")
    if column.dtype.kind not in "iuf":
        raise TypeError(f"{where}: '{name}' must be numbers, got dtype {column.dtype}.")
    return column


def whole_numbers(
    where: str, name: str, labels: Labels, *, highest: int | None = None, length: int | None = None
) -> npt.NDArray[np.int64]:
    """A column of identities or genders: −1 (unknown) to ``highest``, int64."""
    column = label_column(where, name, labels, length=length)
    if column.dtype.kind == "f":
        raise TypeError(f"{where}: '{name}' must be whole numbers, got dtype {column.dtype}.")
    wrong = (column < -1) if highest is None else (column < -1) | (column > highest)
    if wrong.any():
        place = int(wrong.argmax())
        limit = "at least -1" if highest is None else f"in [-1, {highest}]"
        raise ValueError(f"{where}: '{name}' must be {limit} (-1 is unknown), got {column[place]} at index {place}.")
    return column.astype(np.int64)


def age_group_column(where: str, ages: Labels, age_groups: AgeGroups) -> npt.NDArray[np.int64]:
    """The age group of each face; −1 where the age is unknown (NaN).

    Raises:
        ValueError: If an age lies outside [0, 100] years.
    """
    years = torch.from_numpy(label_column(where, "ages", ages).astype(np.float64))
    wrong = ~years.isnan() & ~((years >= 0) & (years <= 100))
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        raise ValueError(
            f"{where}: 'ages' must lie in [0, 100] years (NaN is unknown), got {years[place].item():g} at index "
            f"{place}."
        )
    groups: npt.NDArray[np.int64] = torch.where(years.isnan(), -1, exceeded_edges(years, age_groups.edges)).numpy()
    return groups


def members_of(strata: npt.NDArray[np.int64], num_strata: int) -> list[npt.NDArray[np.int64]]:
    """Indices of the faces in each stratum; those in stratum −1 are in none."""
    order = np.argsort(strata, kind="stable")
    bounds = np.searchsorted(strata[order], np.arange(num_strata + 1))
    return [order[low:high] for low, high in pairwise(bounds)]
