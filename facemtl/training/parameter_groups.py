"""Which parameters an optimizer lets decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

# Our own norms are subclasses of these, or have no parameters.
_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def weight_decay_groups(*modules: nn.Module, weight_decay: float = 5e-4) -> list[dict[str, Any]]:
    """Split what learns into a group that decays and the norm layers' parameters, which do not.

    Decay of a norm's scale does not regularise: the next layer's weights can make up for it. The optimizer applies the
    decay to the weights at each update, so a gradient scaler, which divides the gradients by its scale before, leaves
    it alone; in the released code it was added to scaled gradients, and all but vanished.

    Args:
        *modules: A parameter that several share counts once; it does not decay if a norm layer is among its owners.
            Those that require no gradient are left out.
        weight_decay: Of all others, biases and PReLU included; at least 0.

    Returns:
        One or two groups for any optimizer of torch, with ``params`` and ``weight_decay``; parameters in the order in
        which the modules own them.

    Raises:
        ValueError: If nothing requires a gradient, or ``weight_decay`` is negative or not finite.

    References:
        MTLFace (CVPR 2021), supplementary material: weight decay 5e-4.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8))
        >>> [(len(group["params"]), group["weight_decay"]) for group in weight_decay_groups(network)]
        [(2, 0.0005), (2, 0.0)]
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise ValueError(f"weight_decay_groups: 'weight_decay' must be finite and at least 0, got {weight_decay}.")
    norms = [part for module in modules for part in module.modules() if isinstance(part, _NORMS)]
    of_norms = {parameter for norm in norms for parameter in norm.parameters()}
    learning = {parameter: None for module in modules for parameter in module.parameters() if parameter.requires_grad}
    if not learning:
        raise ValueError("weight_decay_groups: 'modules' must have a parameter that requires a gradient, got none.")
    groups = (
        {"params": [parameter for parameter in learning if parameter not in of_norms], "weight_decay": weight_decay},
        {"params": [parameter for parameter in learning if parameter in of_norms], "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]
