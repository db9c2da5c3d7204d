"""What to do about a loss that is not a number: stop, say where, and leave nothing of it behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_MOST_FILES = 8


class TrainingDiverged(RuntimeError):  # noqa: N818 - what happened, not a fault of a call
    """A loss or a gradient is infinite or not a number."""


def check_terms(terms: Mapping[str, float], *, step: int, phase: str, files: Sequence[str]) -> None:
    """Raise if a loss term is not finite.

    Args:
        terms: Values by name, total included.
        step: Of the run.
        phase: What is being trained.
        files: Names of the faces that the terms were computed from.

    Raises:
        TrainingDiverged: With step, terms, values and the first file names.

    Example:
        >>> terms = {"identity": 23.1, "age": float("nan")}
        >>> check_terms(terms, step=120, phase="recognition", files=["a.jpg", "b.jpg"])
        Traceback (most recent call last):
            ...
        facemtl.training.finite.TrainingDiverged: Step 120 (recognition): loss term 'age' must be finite, got nan. The \
other terms: identity = 23.1. The faces: a.jpg, b.jpg. Look at these, lower the learning rate, or compute in float32.
    """
    bad = {name: value for name, value in terms.items() if not math.isfinite(value)}
    if not bad:
        return
    good = ", ".join(f"{name} = {value:g}" for name, value in terms.items() if name not in bad)
    named = " and ".join(f"'{name}'" for name in bad)
    raise TrainingDiverged(
        f"Step {step} ({phase}): loss term{'s' if len(bad) > 1 else ''} {named} must be finite, got "
        f"{' and '.join(str(value) for value in bad.values())}. "
        + (f"The other terms: {good}. " if good else "")
        + f"The faces: {_listed(files)}. Look at these, lower the learning rate, or compute in float32."
    )


class BufferSnapshot:
    """A copy of the buffers of modules, to put back if a step turns out badly.

    A forward pass moves the running statistics of batch norms before anyone has seen the loss: without this, the
    checkpoint written after a loss of NaN would hold statistics of NaN.

    Args:
        *modules: Whose buffers; those they have now, persistent or not.

    Example:
        >>> import torch
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> snapshot = BufferSnapshot(norm)
        >>> snapshot.take()
        >>> _ = norm(torch.full((4, 2), float("nan")))
        >>> snapshot.restore()
        >>> norm.running_mean.tolist(), norm.num_batches_tracked.item()
        ([0.0, 0.0], 0)
    """

    def __init__(self, *modules: nn.Module) -> None:
        parts = {part: None for module in modules for part in module.modules()}
        self._places = [(part, name) for part in parts for name, buffer in part._buffers.items() if buffer is not None]
        self._copies: list[Tensor] | None = None

    @torch.no_grad()
    def take(self) -> None:
        """Copy the buffers, into the memory of the copy before."""
        buffers = self._buffers()
        if self._copies is None or any(
            copy.shape != buffer.shape or copy.dtype != buffer.dtype or copy.device != buffer.device
            for copy, buffer in zip(self._copies, buffers, strict=True)
        ):
            self._copies = [buffer.detach().clone() for buffer in buffers]
        else:
            _copy(self._copies, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copy back, in place.

        Raises:
            RuntimeError: If none was taken.
        """
        if self._copies is None:
            raise RuntimeError("BufferSnapshot.restore: there is no copy to put back. Call take() before the step.")
        _copy(self._buffers(), self._copies)

    def _buffers(self) -> list[Tensor]:
        """The tensors as they are now: a module may have put another one in its place."""
        return [buffer for part, name in self._places if (buffer := part._buffers[name]) is not None]


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """In one kernel for each kind of tensor: hundreds of small ones would take longer than they hold."""
    kinds: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        chosen = kinds.setdefault((target.device, target.dtype), ([], []))
        chosen[0].append(target)
        chosen[1].append(source)
    for chosen in kinds.values():
        torch._foreach_copy_(*chosen)


def _listed(files: Sequence[str]) -> str:
    shown = ", ".join(files[:_MOST_FILES]) or "none named"
    return shown if len(files) <= _MOST_FILES else f"{shown} and {len(files) - _MOST_FILES} more"
