"""Signals that ask a run to stop: it finishes its step, writes a checkpoint, and only then ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether a signal asked this process to stop. A loop asks it between steps.

    Attributes:
        name: The first signal that came, ``"SIGTERM"`` or ``"SIGINT"``; None before.

    Example:
        >>> StopRequest().requested
        False
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._interrupted = False

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.name is not None

    def _heed(self, number: int, frame: FrameType | None) -> None:
        again = self._interrupted and number == signal.SIGINT
        self._interrupted = self._interrupted or number == signal.SIGINT
        self.name = self.name or signal.Signals(number).name
        if again:
            raise KeyboardInterrupt


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turn SIGTERM (a scheduler's) and SIGINT (Ctrl-C) into a flag for the length of the block.

    The handler does nothing but set the flag, so a step is never torn apart. A second SIGINT raises
    ``KeyboardInterrupt``, for who cannot wait. The former handlers are there again after the block. Python lets only
    the main thread handle signals: in another one the flag is never set.

    With several processes the signal may reach one only, or each in another step: ask
    :meth:`~facemtl.training.processes.Processes.any` in each step whether anyone was asked. Under torchrun all must end
    within 30 s (``--shutdown-timeout`` in newer versions).

    Yields:
        The flag.

    Example:
        >>> import signal
        >>> with listen_for_stop() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop.requested, stop.name
        (True, 'SIGTERM')
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, stop._heed) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            # None stands for a handler that Python did not install and cannot name.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_stop_signals(worker_id: int) -> None:
    """Ignore SIGTERM and SIGINT in this process: the ``worker_init_fn`` of a ``DataLoader``.

    A terminal and many schedulers signal all processes of a job. Workers that end at once take the batch with them
    that the training process waits for, and its checkpoint is never written. They end when it does.

    Args:
        worker_id: Number of the worker; not used.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(range(8), num_workers=2, worker_init_fn=ignore_stop_signals)
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
