"""Worker processes that may die: a file that kills its decoder costs that file, not the job."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_ATTEMPTS = 2  # a worker may have died for want of memory: each task has a second chance in a fresh one


@dataclass
class _Worker(Generic[Task]):
    process: Any
    connection: Connection
    ready: bool = False
    task: tuple[int, Task] | None = None
    since: float = field(default_factory=time.monotonic)


class WorkerPool(Generic[Task, Result]):
    """Calls a function on tasks in several processes; results come in the tasks' order.

    ``concurrent.futures`` gives up all work when one process dies; here the task that it died on (twice) gets a
    result of the caller's making, and a new process takes its place. A task that takes too long ends the same way.

    Args:
        prepare: Called once in each process; returns the function that is called on each task. Picklable.
        failed: Makes the result of a task whose process died or took too long, from the task and what happened.
        num_workers: Processes; 0 works in this one, where nothing protects from a crash.
        timeout: Seconds that a task may take.
        ahead: Results that may wait for an earlier one, for each worker.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[Task], Result]],
        *,
        failed: Callable[[Task, str], Result],
        num_workers: int,
        timeout: float = 300.0,
        ahead: int = 2,
    ) -> None:
        self._prepare, self._failed, self._timeout = prepare, failed, timeout
        self._num_workers, self._ahead = num_workers, ahead * num_workers
        self._workers: list[_Worker[Task]] = []

    def __enter__(self) -> WorkerPool[Task, Result]:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes, whatever they are at."""
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
        """Yield each task with its result, in order."""
        if self._num_workers == 0:
            work = self._prepare()
            yield from ((task, work(task)) for task in tasks)
        else:
            yield from self._in_order(enumerate(tasks))

    def _in_order(self, tasks: Iterator[tuple[int, Task]]) -> Iterator[tuple[Task, Result]]:
        again: deque[tuple[int, Task]] = deque()
        attempts: dict[int, int] = {}
        done: dict[int, tuple[Task, Result]] = {}
        given = wanted = 0
        exhausted = False
        while True:
            while wanted in done:
                yield done.pop(wanted)
                wanted += 1
            for worker in self._free_workers():
                if again:
                    self._give(worker, again.popleft())
                elif not exhausted and given - wanted < self._ahead:
                    numbered = next(tasks, None)
                    if numbered is None:
                        exhausted = True
                        continue
                    given += 1
                    self._give(worker, numbered)
            if exhausted and wanted == given:
                return
            for (index, task), result, fate in self._collect():
                if fate is None:
                    done[index] = (task, result)
                    continue
                attempts[index] = attempts.get(index, 0) + 1
                if attempts[index] < _ATTEMPTS and not fate.startswith("took"):
                    again.append((index, task))
                else:
                    done[index] = (task, self._failed(task, fate))

    def _free_workers(self) -> list[_Worker[Task]]:
        while len(self._workers) < self._num_workers:
            self._workers.append(self._start())
        return [worker for worker in self._workers if worker.ready and worker.task is None]

    def _start(self) -> _Worker[Task]:
        # Forking this process, whose libraries run threads, may hang the child; a fork server has none.
        context: Any = multiprocessing.get_context("spawn")
        if "forkserver" in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__, type(self._prepare).__module__])
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._prepare), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker[Task], numbered: tuple[int, Task]) -> None:
        worker.task, worker.since = numbered, time.monotonic()
        with contextlib.suppress(OSError):  # it died meanwhile: the next collection sees that
            worker.connection.send(numbered[1])

    def _collect(self) -> list[tuple[tuple[int, Task], Any, str | None]]:
        """Wait a little for results and deaths: (task, result, None) or (task, None, what happened)."""
        outcomes: list[tuple[tuple[int, Task], Any, str | None]] = []
        wait([worker.connection for worker in self._workers], timeout=0.5)
        for worker in list(self._workers):
            try:
                if worker.connection.poll():
                    kind, value = worker.connection.recv()
                    self._receive(worker, kind, value, outcomes)
                    continue
            except (EOFError, OSError):
                self._bury(worker, _fate(worker), outcomes)
                continue
            if worker.task is not None and time.monotonic() - worker.since > self._timeout:
                self._bury(worker, f"took longer than {self._timeout:g} s", outcomes)
        return outcomes

    def _receive(self, worker: _Worker[Task], kind: str, value: Any, outcomes: list[Any]) -> None:
        if kind == "ready":
            worker.ready = True
        elif kind == "result":
            outcomes.append((worker.task, value, None))
            worker.task = None
        else:  # an exception that `prepare` or the function let out: a bug or a missing package, not the task's fault
            raise RuntimeError(f"a worker process stopped: {value}")

    def _bury(self, worker: _Worker[Task], fate: str, outcomes: list[Any]) -> None:
        self._workers.remove(worker)
        _end(worker)
        if worker.task is not None:
            outcomes.append((worker.task, None, fate))
        elif not worker.ready:
            raise OSError(f"a worker process {fate} before its first photograph. Try workers=0, which shows why.")


def _end(worker: _Worker[Any]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _fate(worker: _Worker[Any]) -> str:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended (code {code})"


def _serve(connection: Connection, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """What a worker process does: one task after another until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; this process's parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _quiet_libraries()
    with contextlib.suppress(EOFError, OSError):  # this process's parent is gone
        try:
            work = prepare()
            connection.send(("ready", None))
            while True:
                task = connection.recv()
                answer = ("result", work(task))
                connection.send(answer)
        except (EOFError, ConnectionError):
            return
        except Exception as error:
            connection.send(("error", f"{type(error).__name__}: {error}"))


def _quiet_libraries() -> None:
    """One thread each, as there is a process for each core; and libtiff's grumbling stays off the terminal."""
    import torch

    torch.set_num_threads(1)
    if sys.stderr is not None and "FACEMTL_DEBUG" not in os.environ:
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
