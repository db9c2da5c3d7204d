"""What a run writes down while it runs: metrics, pictures and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from facemtl.data.samplers import GlobalBatchSampler
from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.metrics_log import MetricsLog
from facemtl.training.outcome import draw_grid
from facemtl.training.run import Position, Run
from facemtl.training.run_facts import run_facts
from facemtl.training.step_progress import StepProgress

METRICS = (
    *(f"recognition/{name}" for name in ("total", "identity", "age", "adversary", "gradient_norm", "learning_rate")),
    *(f"synthesis/{name}" for name in ("discriminator", "real_score", "fake_score", "discriminator_gradient_norm")),
    *(f"synthesis/{name}" for name in ("total", "adversarial", "identity", "age", "gradient_norm")),
    "images_per_second",
)
"""Columns of ``metrics.csv``."""


class Recorder:
    """Means of the metrics every so often, and pictures and checkpoints when asked.

    Args:
        run: The run.
        log: On the first process; None on the others.
        progress: On the first process; None on the others.
        checkpoints: Of the run.
    """

    def __init__(
        self, run: Run, log: MetricsLog | None, progress: StepProgress | None, checkpoints: CheckpointFolder
    ) -> None:
        self._run, self._log, self._progress, self._checkpoints = run, log, progress, checkpoints
        self._sums: dict[str, float] = {}
        self._updates, self._faces, self._since = 0, 0, time.perf_counter()

    def note(self, values: Mapping[str, float], *, faces: int, step: int, flush: bool = False) -> None:
        """Count an update; write the means over updates and processes every ``log_every`` of them, or now.

        Args:
            values: Metrics of this process, the same names on all.
            faces: Faces of the global batch.
            step: Of the run.
            flush: Whether to write now.
        """
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._updates, self._faces = self._updates + 1, self._faces + faces
        if not flush and step % self._run.settings.record.log_every:
            return
        sums = torch.tensor([*self._sums.values()], dtype=torch.float64)  # on the CPU, where numbers are already
        metrics = dict(zip(self._sums, self._run.processes.mean(sums / self._updates).tolist(), strict=True))
        metrics["images_per_second"] = self._faces / max(time.perf_counter() - self._since, 1e-9)
        if self._log is not None:
            self._log.write(step, metrics)
        if self._progress is not None:
            self._progress.update(step, metrics)
        self._sums, self._updates, self._faces = {}, 0, 0
        self._since = time.perf_counter()

    def picture(self, step: int) -> None:
        """Draw people at all ages as the generator now paints them."""
        with self._off_the_clock():
            if self._run.processes.is_main:
                path = self._run.settings.output / "grids" / f"step-{step:08d}.png"
                draw_grid(self._run.model, self._run.faces.held_out or self._run.faces.training, path)

    def checkpoint(self, position: Position, sampler: GlobalBatchSampler) -> Path:
        """Write everything that the run needs to go on from ``position``.

        Args:
            position: Where it stands.
            sampler: Of the phase.
        """
        run = self._run
        facts = {
            **run_facts(run.settings, run.faces),
            "phase": position.phase,
            "number": position.number,
            "sampler": sampler.state_dict(position.number),
            "precision": run.precision.state_dict(),
        }
        with self._off_the_clock():
            return self._checkpoints.save(position.step, run.state, facts)

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        """Leave the time of this out of images a second."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began
