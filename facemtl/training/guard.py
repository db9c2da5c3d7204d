"""What every process asks all others before it changes a weight: are the losses finite, and shall we stop?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from facemtl.training.finite import TrainingDiverged, check_terms
from facemtl.training.interruption import StopRequest
from facemtl.training.processes import Processes


class Guard:
    """Reads the losses of an update once, on all processes together.

    Args:
        processes: Of the run.
        stop: Whether a signal asked this process to stop.
        name_of: What the data set calls a face.

    Attributes:
        stopping: Whether any process was asked to stop, as of the last check: all processes agree on it.
    """

    def __init__(self, processes: Processes, stop: StopRequest, name_of: Callable[[int], str]) -> None:
        self._processes, self._stop, self._name_of = processes, stop, name_of
        self.stopping = False

    def check(self, terms: Mapping[str, Tensor], *, step: int, phase: str, faces: Tensor) -> dict[str, float]:
        """Return the terms as numbers, or raise on all processes before any of them updates a weight.

        Args:
            terms: Scalars.
            step: Of the run.
            phase: Of the run.
            faces: ``(batch,)`` places in the data set of the faces that the terms were computed from.

        Raises:
            TrainingDiverged: If a term is not finite here or elsewhere.
        """
        numbers = torch.stack([term.detach().float() for term in terms.values()]).tolist()
        values = dict(zip(terms, numbers, strict=True))
        bad = not all(math.isfinite(value) for value in numbers)
        anywhere, self.stopping = self._processes.any(bad, self._stop.requested)
        if bad:
            check_terms(values, step=step, phase=phase, files=self._names(faces.tolist()))
        if anywhere:
            raise TrainingDiverged(
                f"Step {step} ({phase}): the losses of another process are not finite; its message says which."
            )
        return values

    def _names(self, faces: Sequence[int]) -> list[str]:
        return [self._name_of(face) for face in faces]
