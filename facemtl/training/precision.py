"""In how many bits a run computes: autocast, the scaler that float16 needs, and the norm of the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from facemtl.training.finite import TrainingDiverged

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]

MOST_SKIPPED = 20
"""Updates in a row that the scaler may skip: each halves its scale, and 20 halvings leave nothing of 2¹⁶."""


class Precision:
    """Autocast and gradient scaling of a run.

    Weights, optimizers, margin softmax and losses stay in float32. float16 overflows where bfloat16 does not, so its
    loss is scaled, and an update whose gradients overflow is skipped. The gradients are divided by the scale before the
    optimizer sees them: weight decay does not depend on it.

    Args:
        name: ``"auto"`` is bfloat16 on CUDA and float32 elsewhere.
        device: Where the run computes.

    Attributes:
        name: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        skipped: Updates skipped so far.

    Raises:
        ValueError: If ``name`` is another word.

    Example:
        >>> import torch
        >>> Precision("auto", torch.device("cpu")).name
        'float32'
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        if name not in get_args(PrecisionName):
            raise ValueError(f"Precision: 'name' must be one of {', '.join(get_args(PrecisionName))}, got {name!r}.")
        if name == "auto":
            name = "bfloat16" if device.type == "cuda" else "float32"
        self.name, self.device = name, device
        self.skipped, self._skipped_in_a_row = 0, 0
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """Context of a forward pass."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bfloat16" else torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled if need be."""
        scaled: Tensor = self._scaler.scale(loss)
        scaled.backward()

    def gradient_norm(self, *optimizers: torch.optim.Optimizer) -> Tensor:
        """Euclidean norm of the gradients of all parameters; a scalar, float32.

        Of parameters that are split over processes the parts of all count, so all processes call this together. With
        float16 an overflow is no fault, as the scaler skips that update: it counts as 0 here.
        """
        whole: list[Tensor] = []
        parts: list[Any] = []
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad
                    if gradient is not None:
                        (parts if hasattr(gradient, "to_local") else whole).append(gradient)
        square = self._square_of_norm(whole)
        if parts:
            split = self._square_of_norm([part.to_local() for part in parts])
            torch.distributed.all_reduce(split, group=parts[0].device_mesh.get_group())
            square = square + split
        norm = square.sqrt().float()
        if self._scaler.is_enabled():
            return (norm / self._scaler.get_scale()).nan_to_num(0.0, 0.0, 0.0)
        return norm

    def _square_of_norm(self, gradients: list[Tensor]) -> Tensor:
        gradients = [gradient for gradient in gradients if gradient.numel()]
        if not gradients:  # of a head with fewer people than processes, say
            return torch.zeros((), device=self.device)
        return torch.stack([norm.float() for norm in torch._foreach_norm(gradients)]).square().sum()

    def step(self, *optimizers: torch.optim.Optimizer) -> None:
        """Update the weights, unless float16 gradients overflowed.

        Raises:
            TrainingDiverged: If that happened too often in a row.
        """
        if not self._scaler.is_enabled():
            for optimizer in optimizers:
                optimizer.step()
            return
        before = self._scaler.get_scale()
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        if self._scaler.get_scale() >= before:
            self._skipped_in_a_row = 0
            return
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED:
            raise TrainingDiverged(
                f"Precision.step: gradients must be finite at some scale, got an overflow in {MOST_SKIPPED} updates in "
                f"a row, the last at a scale of {before:g}. Use bfloat16 or float32, or a lower learning rate."
            )

    def state_dict(self) -> dict[str, Any]:
        """Numbers for a checkpoint."""
        return {"name": self.name, "skipped": self.skipped, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one of another precision begins with a new scaler."""
        self.skipped = int(state.get("skipped", 0))
        if state.get("name") == self.name and state.get("scaler"):
            self._scaler.load_state_dict(dict(state["scaler"]))
