"""Real processes on this machine that talk through gloo, for tests of what several processes do together."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed

_OF_A_COLLECTIVE = timedelta(seconds=60)
_SETTLING_S = 0.2  # gloo of torch 2.6 hangs if it is taken down while a thread of its own lets go of the last tensor


def run_gloo(
    worker: Callable[..., Any], world_size: int, *args: Any, folder: Path, timeout_s: float = 120.0
) -> list[Any]:
    """Run ``worker(rank, world_size, *args)`` in so many processes, and give what each returned, in order of rank.

    The environment of each says what torchrun's would: RANK, LOCAL_RANK, WORLD_SIZE. The process group is there when
    ``worker`` begins, and is taken down after it. The processes know nothing of pytest's import hook, nor of what a
    test patched, the environment included: they are copies of a server that has done nothing but import torch, which
    takes seconds, once for a whole run of tests.

    Args:
        worker: A function at the top level of a module.
        world_size: How many processes.
        *args: What can be pickled.
        folder: Of the store by which they find each other; ``tmp_path``. May be used again and again.
        timeout_s: After it all are killed.

    Raises:
        RuntimeError: If a process raises, with the traceback of the first that did, or dies.
        TimeoutError: If they take longer than ``timeout_s``.
    """
    place = Path(tempfile.mkdtemp(prefix="gloo-", dir=folder))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facemtl", "torch.distributed.tensor", "torch._dynamo", "pytest", "hypothesis"])
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(worker, rank, world_size, args, place), daemon=True)
        for rank in range(world_size)
    ]
    try:
        with patch.dict(os.environ, OMP_NUM_THREADS="1"):
            for process in processes:
                process.start()
        _wait(processes, time.monotonic() + timeout_s, place)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
    return [pickle.loads((place / f"{rank}.result").read_bytes()) for rank in range(world_size)]


def _wait(processes: list[BaseProcess], deadline: float, place: Path) -> None:
    running = dict(enumerate(processes))
    while running:
        ready = wait([process.sentinel for process in running.values()], timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"run_gloo: ranks {sorted(running)} still ran after the time allowed.")
        for rank, process in list(running.items()):
            if process.sentinel not in ready:
                continue
            process.join()
            if process.exitcode:
                raise RuntimeError(_first_error(place) or f"rank {rank} died with exit code {process.exitcode}")
            del running[rank]


def _first_error(place: Path) -> str | None:
    """The traceback of the rank that raised first, written before it let its peers go: they only lost theirs."""
    errors = [pickle.loads(path.read_bytes()) for path in place.glob("*.error")]
    return min(errors)[1] if errors else None


def _work(worker: Callable[..., Any], rank: int, world_size: int, args: tuple[Any, ...], place: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    try:
        torch.distributed.init_process_group(
            "gloo",
            store=torch.distributed.FileStore(  # type: ignore[attr-defined]  # not in its __all__
                str(place / "store"), world_size
            ),
            rank=rank,
            world_size=world_size,
            timeout=_OF_A_COLLECTIVE,
        )
        result = worker(rank, world_size, *args)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # nobody leaves while another still talks to it
            time.sleep(_SETTLING_S)
            torch.distributed.destroy_process_group()
        _write(place / f"{rank}.result", result)
    except BaseException:
        _write(place / f"{rank}.error", (time.monotonic_ns(), f"rank {rank} raised:\n{traceback.format_exc()}"))
        raise SystemExit(1) from None  # the parent shows it


def _write(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(pickle.dumps(value))
    unfinished.replace(path)
