"""One process or many: the same code, started with ``python`` or with ``torchrun``."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.nn.parallel import DistributedDataParallel

from facemtl._core.precision import at_least_float32
from facemtl.data.devices import choose_device

Value = TypeVar("Value")

# torch 2.15 renamed it, and warns of the old name. Told False, the old one leaves buffers alone from the start.
_BUFFERS_OPTION = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
_CLOSING_S = 10.0
_SETTLING_S = 0.2
_LAUNCHERS_TICK_S = 1.1


@dataclass(frozen=True)
class Processes:
    """This process among those of a run, and what they do together.

    Each method that speaks of all processes must be called by all of them, in the same order.

    Example:
        >>> import torch
        >>> alone = Processes(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
        >>> alone.is_main, alone.share_of(512, "global_batch"), alone.any(False, True)
        (True, 512, (False, True))
    """

    rank: int
    """Number of this process, from 0."""
    local_rank: int
    """Its number on this machine."""
    world_size: int
    """How many processes there are, on all machines."""
    device: torch.device
    """Where this process computes."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    def share_of(self, global_size: int, name: str) -> int:
        """Give one process's part of a size that is configured for all together.

        Args:
            global_size: Of all processes.
            name: What the user calls it.

        Raises:
            ValueError: If it does not divide.
        """
        if global_size < self.world_size or global_size % self.world_size:
            raise ValueError(
                f"Processes.share_of: '{name}' must be a multiple of the number of processes, {self.world_size}, got "
                f"{global_size}. Choose another, or start another number of processes."
            )
        return global_size // self.world_size

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes, elementwise, without gradient and in float32 or wider.

        Args:
            values: Floating point, of the same shape everywhere: a few numbers, not a gradient.

        Raises:
            TypeError: If ``values`` is not floating point.
        """
        if not values.is_floating_point():
            raise TypeError(
                f"Processes.mean: 'values' must be floating point, got {values.dtype}. Call values.float()."
            )
        values = at_least_float32(values.detach())
        if self.world_size == 1:
            return values
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total / self.world_size

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags are set on any process; all get the same answer.

        Travels through the CPU: the GPU need not have finished, and no kernel waits.
        """
        if self.world_size == 1 or not flags:
            return tuple(bool(flag) for flag in flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def share(self, value: Value) -> Value:
        """Return the ``value`` of process 0, whatever it is here; must be picklable."""
        if self.world_size == 1:
            return value
        parcel: list[Any] = [value]
        torch.distributed.broadcast_object_list(parcel, src=0)
        shared: Value = parcel[0]
        return shared

    def barrier(self) -> None:
        """Wait until all processes have come here. Does not wait for their GPUs."""
        self.any(False)

    def parallel(self, module: nn.Module, *, broadcast_buffers: bool = True) -> nn.Module:
        """Wrap a module so that its gradients are averaged over all processes in ``backward``.

        With equal shares the gradient is that of the mean loss of the global batch. Wrapping copies process 0's
        parameters and buffers to all. The original stays usable, and shares its parameters: save that one, and call it
        where no gradient of its own is wanted. Each parameter must take part in each backward pass.

        Args:
            module: On this process's device.
            broadcast_buffers: Whether each forward pass begins with process 0's buffers. In train mode batch norms
                normalise by their own process's share of the batch in any case; their running statistics are then
                those of process 0's share everywhere, as in a checkpoint, which process 0 writes. Not needed where
                buffers agree by themselves: spectral norm's vectors are computed from the weights alone.

        Returns:
            torch's ``DistributedDataParallel``; ``module`` itself if there is one process, or nothing to train.
        """
        if self.world_size == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer.detach(), src=0)
        buffers: dict[str, Any] = {_BUFFERS_OPTION: broadcast_buffers}
        return DistributedDataParallel(
            module,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **buffers,
        )


@contextmanager
def launch(device: str | torch.device = "auto", *, timeout: timedelta = timedelta(minutes=10)) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, for the length of the block; started without, be one alone.

    What torchrun says is in the environment: RANK, LOCAL_RANK, WORLD_SIZE, and where process 0 is found. Tensors on
    GPUs travel through NCCL, those on the CPU through gloo. One process alone has no process group at all. A process
    group that exists already is used, and stays; it must have gloo for the CPU.

    An exception inside the block is reported to torchrun, whose last words then name it as the root cause: no need of
    torch's ``record`` on the main function. The others lose their connection, raise as well, and the job ends.

    Args:
        device: Where to compute: ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``. With several processes each takes the
            GPU of its local rank, and ``"auto"`` is the CPU only where there is no GPU at all.
        timeout: Longest wait for the other processes in one collective, before an exception.

    Yields:
        This process among them.

    Raises:
        ValueError: If the environment lacks one of its numbers, or there are fewer GPUs than processes.

    Example:
        >>> with launch("cpu") as processes:
        ...     processes.world_size, processes.device
        (1, device(type='cpu'))
    """
    rank, local_rank, world_size = _places()
    place = _own_device(device, local_rank, world_size)
    processes = Processes(rank, local_rank, world_size, place)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world_size == 1 or torch.distributed.is_initialized():
        yield processes
        return
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
        timeout=timeout,
        device_id=place if place.type == "cuda" else None,
    )
    try:
        yield processes
    except BaseException as error:
        if isinstance(error, Exception) and "TORCHELASTIC_ERROR_FILE" in os.environ:
            get_error_handler().record_exception(error)
            # torchrun takes the earliest error for the cause, and counts in whole seconds: those who will only lose
            # their connection to this process must do so in a later one.
            time.sleep(_LAUNCHERS_TICK_S)
        _leave(longest_s=_CLOSING_S)
        raise
    _leave(longest_s=None)


def _places() -> tuple[int, int, int]:
    """Rank, local rank and world size: those of a process group that exists, of the launcher, or of one process."""
    if torch.distributed.is_initialized():
        rank = torch.distributed.get_rank()
        return rank, int(os.environ.get("LOCAL_RANK", rank)), torch.distributed.get_world_size()
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if "RANK" not in given and "WORLD_SIZE" not in given:
        return 0, 0, 1
    missing = [name for name in names if not given.get(name, "").isdecimal()]
    if missing:
        raise ValueError(
            f"launch: environment variable '{missing[0]}' must be a whole number beside {', '.join(names)}, got "
            f"{given.get(missing[0])!r}. Start with torchrun, or with none of the three."
        )
    rank, local_rank, world_size = (int(given[name]) for name in names)
    if rank >= world_size:
        raise ValueError(f"launch: environment variable 'RANK' must be less than WORLD_SIZE={world_size}, got {rank}.")
    return rank, local_rank, world_size


def _own_device(device: str | torch.device, local_rank: int, world_size: int) -> torch.device:
    if world_size == 1:
        return choose_device(device)
    wanted = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if wanted.type == "cpu":
        return wanted
    if str(wanted) != "cuda":
        raise ValueError(
            f"launch: 'device' must be 'auto', 'cuda' or 'cpu' with {world_size} processes, got {str(wanted)!r}. "
            "Each process takes the GPU of its local rank; CUDA_VISIBLE_DEVICES chooses among them."
        )
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1)), torch.cuda.device_count()
    if gpus < max(here, local_rank + 1):
        raise ValueError(
            f"launch: 'device' must leave each of {here} processes on this machine a GPU of its own, got {gpus} "
            f"visible. Start no more processes than there are GPUs (torchrun --nproc-per-node), or compute on 'cpu'."
        )
    return torch.device("cuda", local_rank)


def _leave(*, longest_s: float | None) -> None:
    """Let go of the other processes. After a failure there is a limit: they may never finish what is under way."""
    # gloo of torch 2.6 never ends if it is taken down while one of its threads still lets go of the last tensor.
    time.sleep(_SETTLING_S)
    closing = threading.Thread(target=torch.distributed.destroy_process_group, daemon=True)
    closing.start()
    closing.join(longest_s)
