"""Where work is done."""

from __future__ import annotations

import torch


def choose_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
