"""Named tuples of tensors from device to device: modules have ``to``, tuples have not."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor

Part = TypeVar("Part")


def moved(part: Part, device: torch.device) -> Part:
    """A tensor, or a named tuple of tensors and of such tuples, on a device."""
    if isinstance(part, Tensor):
        return cast(Part, part.to(device))
    return type(part)(*(moved(value, device) for value in cast("tuple[object, ...]", part)))
