"""What one process does, or each does for itself, so that all know of it: a failure of one is a failure of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import distributed

from facemtl.training.checkpoint_files import CheckpointError, Damaged

_Result = TypeVar("_Result")
_KINDS: tuple[type[Exception], ...] = (CheckpointError, Damaged, TypeError, ValueError, OSError)


class _Failure(NamedTuple):
    """An exception in words, since not every exception can be sent."""

    kind: type[Exception]
    message: str


def rank_and_size() -> tuple[int, int]:
    """This process's number, and how many there are; (0, 1) without a process group."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def on_first(action: Callable[[], _Result]) -> _Result:
    """Let process 0 do ``action``; all return its result or raise what it raised."""
    rank, size = rank_and_size()
    if size == 1:
        return action()
    box: list[Any] = [None]
    error: BaseException | None = None
    if rank == 0:
        try:
            box = [action()]
        except BaseException as problem:  # told to the others before it is raised again: they wait
            error, box = problem, [_failure(rank, problem)]
    distributed.broadcast_object_list(box, src=0)
    return _settled([box[0]], error)[0]


def on_each(action: Callable[[], _Result]) -> list[_Result]:
    """Let each process do ``action``; all return the results by rank, or raise if one has raised."""
    rank, size = rank_and_size()
    if size == 1:
        return [action()]
    mine: Any
    error: BaseException | None = None
    try:
        mine = action()
    except BaseException as problem:
        error, mine = problem, _failure(rank, problem)
    everyone: list[Any] = [None] * size
    distributed.all_gather_object(everyone, mine)
    return _settled(everyone, error)


def _failure(rank: int, problem: BaseException) -> _Failure:
    for kind in _KINDS:
        if isinstance(problem, kind):
            return _Failure(kind, f"process {rank}: {problem}" if kind is OSError else str(problem))
    return _Failure(RuntimeError, f"process {rank}: {problem!r}")


def _settled(results: list[Any], own: BaseException | None) -> list[Any]:
    if own is not None:
        raise own
    for result in results:
        if isinstance(result, _Failure):
            raise result.kind(result.message)
    return results
