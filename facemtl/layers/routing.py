"""A batch of samples of many groups, sorted by group."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Integer
from torch import Tensor

from facemtl._core.shapes import GroupLabels


class Routing(NamedTuple):
    """A batch sorted by group."""

    groups: GroupLabels
    """The samples' groups, ascending."""
    offsets: Integer[Tensor, " edges"]
    """Group ``g`` has the samples ``[offsets[g], offsets[g + 1])``."""


class RoutedBatch(NamedTuple):
    """How to sort a batch by group, and how to undo it."""

    routing: Routing
    order: Integer[Tensor, " batch"]
    """Sample that comes at each place of the sorted batch."""
    inverse: Integer[Tensor, " batch"]
    """Place of each sample in the sorted batch."""


def route(groups: GroupLabels, num_groups: int) -> RoutedBatch:
    """Sort a batch by group; shapes do not depend on the groups, and nothing is read back to the host.

    Args:
        groups: ``(batch,)`` integers in [0, ``num_groups``).
        num_groups: Number of groups.

    Returns:
        The sorted batch's routing and both permutations. In exported graphs nothing is sorted.

    Example:
        >>> import torch
        >>> routed = route(torch.tensor([2, 0, 2]), 3)
        >>> routed.order.tolist(), routed.routing.offsets.tolist()
        ([1, 0, 2], [0, 1, 1, 3])
    """
    if is_exporting():  # ONNX has no stable sort, and kernels are gathered sample by sample there
        order = torch.arange(groups.shape[0], device=groups.device)
        return RoutedBatch(Routing(groups.long(), order), order, order)
    order = torch.argsort(groups, stable=True)
    ordered = groups.long().index_select(0, order)
    offsets = torch.searchsorted(ordered, torch.arange(num_groups + 1, device=groups.device))
    return RoutedBatch(Routing(ordered, offsets), order, torch.argsort(order))


def is_exporting() -> bool:
    """Whether `torch.export` or the ONNX exporter traces, which want standard operators alone."""
    exporting = getattr(torch.compiler, "is_exporting", None)
    return bool(exporting()) if exporting is not None else torch.onnx.is_in_onnx_export()


def route_all(batch: int, num_groups: int, device: torch.device) -> Routing:
    """Routing of ``num_groups`` copies of a batch, one after the other: copy ``g`` is of group ``g``."""
    index = torch.arange(num_groups + 1, device=device)
    return Routing(index[:-1, None].expand(num_groups, batch).reshape(-1), index * batch)
