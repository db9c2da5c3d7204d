"""Step counters of batch norms, which older checkpoints lack."""

from __future__ import annotations

import torch
from torch import nn

from facemtl.networks.released.renaming import StateDict


def fill_counters(module: nn.Module, state: StateDict) -> StateDict:
    """Add a zero for each ``num_batches_tracked`` of ``module`` that ``state`` lacks.

    Checkpoints of before PyTorch 0.4.1 have none. The count matters only to norms with ``momentum=None``, which no
    network here has.
    """
    missing = [key for key in module.state_dict() if key.endswith(".num_batches_tracked") and key not in state]
    return state | {key: torch.tensor(0) for key in missing}
