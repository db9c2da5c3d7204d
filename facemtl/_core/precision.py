"""Computing in full precision inside autocast, where half precision would cost digits that matter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Asked once: torch.compile of torch 2.6 cannot trace the question.
_AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu") if torch.amp.is_autocast_available(kind)
)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on ``tensor``'s device."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if kind in _AUTOCAST_DEVICES else nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 if it is of half precision, else unchanged: softmaxes and losses want no less."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def widest_dtype(tensor: Tensor) -> torch.dtype:
    """The widest floating-point dtype that the device of ``tensor`` has: float64, or float32 on MPS."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
