"""The metrics of a run, step by step: a CSV that survives being killed, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from facemtl._core.whole_files import stage
from facemtl.training.metrics_file import METRICS_FILE, STEP, checked_columns, read_rows

_TENSORBOARD_FOLDER = "tensorboard"
_WANDB_RUN = "wandb_run.txt"


class MetricsLog:
    """Write every metric of a run into ``metrics.csv``, and into TensorBoard and Weights & Biases if wanted.

    A row of the CSV is a step; a metric that was not measured then is blank. A row reaches the operating system before
    :meth:`write` returns, so a killed run loses nothing; numbers are written so that they read back as they were.

    A run that resumes takes back what it will do again: rows after the checkpoint's step, and a last line that was cut
    short, go before anything is added. TensorBoard and Weights & Biases then show the run as one.

    Made and used by one process, rank 0.

    Args:
        folder: Folder of the run; gets ``metrics.csv`` and ``tensorboard/``.
        columns: Names of all metrics that the run may write. Curves group them by what stands before a slash:
            ``"recognition/identity"``.
        resume_at: Step of the checkpoint from which the run goes on; 0 begins the file anew.
        tensorboard: Whether TensorBoard's files are written as well.
        wandb_project: Project at Weights & Biases to log to as well.
        settings: Of the run, for Weights & Biases.

    Raises:
        ValueError: If a column's name is empty, doubled or would break the file; if ``resume_at`` is negative; or if
            the file of the run to be resumed has other columns, is damaged before its last line, or is no such file.
        ImportError: If TensorBoard or wandb is wanted and missing.
        OSError: If the disk is full, say.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with MetricsLog(folder, ["recognition/identity", "recognition/age"], tensorboard=False) as log:
        ...     log.write(1, {"recognition/identity": 12.5})
        ...     log.write(2, {"recognition/identity": 11.25, "recognition/age": 4.5})
        >>> from facemtl.training.metrics_file import read_metrics
        >>> read_metrics(Path(folder) / "metrics.csv")["recognition/age"].steps
        array([2])
    """

    def __init__(
        self,
        folder: str | Path,
        columns: Sequence[str],
        *,
        resume_at: int = 0,
        tensorboard: bool = True,
        wandb_project: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if resume_at < 0:
            raise ValueError(f"MetricsLog: 'resume_at' must be a step from 0 on, got {resume_at}.")
        self.folder, self.path = Path(folder), Path(folder) / METRICS_FILE
        self.folder.mkdir(parents=True, exist_ok=True)
        self._columns = checked_columns(columns)
        self._last_step = 0
        self._file: io.TextIOWrapper | None = None
        self._tensorboard: Any = None
        self._wandb: Any = None
        try:
            self._begin_or_resume(resume_at)
            self._tensorboard = _tensorboard_writer(self.folder, resume_at) if tensorboard else None
            self._wandb = _wandb_run(self.folder, wandb_project, settings, resume_at) if wandb_project else None
            self._file = open(  # noqa: SIM115 - closed by close()
                self.path, "a", encoding="utf-8", newline=""
            )
        except BaseException:
            self.close()
            raise

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the file."""
        return self._columns

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a row.

        Args:
            step: The step, at least that of the row before.
            metrics: Some or all of the columns: numbers, or tensors of one.

        Raises:
            ValueError: If a metric is no column, a step goes back, or the log is closed.
        """
        if self._file is None:
            raise ValueError(f"MetricsLog.write: the log is closed, got step {step}.")
        if step < self._last_step:
            raise ValueError(
                f"MetricsLog.write: 'step' must be at least {self._last_step}, the last row's, got {step}."
            )
        unknown = [name for name in metrics if name not in self._columns]
        if unknown:
            raise ValueError(
                f"MetricsLog.write: 'metrics' must name columns of the log, got {unknown[0]!r} at step {step}. "
                f"The columns are {', '.join(self._columns)}."
            )
        values = {name: float(value) for name, value in metrics.items()}
        cells = (repr(values[name]) if name in values else "" for name in self._columns)
        self._file.write(f"{int(step)},{','.join(cells)}\n")
        self._file.flush()
        self._last_step = int(step)
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, int(step))
            self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log({STEP: int(step), **values})

    def close(self) -> None:
        """Close the files; may be called again."""
        file, board, run = self._file, self._tensorboard, self._wandb
        self._file = self._tensorboard = self._wandb = None
        if file is not None:
            file.close()
        if board is not None:
            board.close()
        if run is not None:
            run.finish()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_or_resume(self, resume_at: int) -> None:
        """Leave the file with its header and the rows up to ``resume_at``."""
        kept: list[str] = []
        if resume_at and self.path.exists():
            header, rows = read_rows(self.path)
            if set(header) != set(self._columns):
                raise ValueError(_difference(self.path, header, self._columns))
            self._columns = header
            kept = [line for step, line in rows if step <= resume_at]
            self._last_step = max((step for step, _ in rows if step <= resume_at), default=0)
        text = "\n".join([",".join((STEP, *self._columns)), *kept, ""])
        os.replace(stage(text.encode(), staging=self.folder, durable=True), self.path)


def _difference(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> str:
    missing = [name for name in theirs if name not in ours]
    new = [name for name in ours if name not in theirs]
    parts = [f"without {', '.join(missing)}"] if missing else []
    parts += [f"with {', '.join(new)} anew"] if new else []
    return (
        f"MetricsLog: 'columns' must be those of {str(path)!r}, which the run goes on with, got them "
        f"{' and '.join(parts)}. Resume with the settings of the run, or give another folder."
    )


def _tensorboard_writer(folder: Path, resume_at: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'MetricsLog needs TensorBoard: pip install "facemtl[train]", or pass tensorboard=False'
        ) from error
    # TensorBoard hides what an earlier run in the folder wrote at or after this step.
    return SummaryWriter(str(folder / _TENSORBOARD_FOLDER), purge_step=resume_at + 1)


def _wandb_run(folder: Path, project: str, settings: Mapping[str, Any] | None, resume_at: int) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError("MetricsLog needs Weights & Biases for 'wandb_project': pip install wandb") from error
    note = folder / _WANDB_RUN
    earlier = note.read_text(encoding="utf-8").strip() if resume_at and note.exists() else ""
    run = wandb.init(project=project, dir=str(folder), config=dict(settings or {}), id=earlier or None, resume="allow")
    # By our steps, not by wandb's count of calls, which cannot go back to a checkpoint.
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    os.replace(stage(f"{run.id}\n".encode(), staging=folder), note)
    return run
