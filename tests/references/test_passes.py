"""Gradients accumulated over passes by two real processes, against one that takes the whole batch at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facemtl.training.passes import until_last
from facemtl.training.processes import Processes
from tests.gloo import run_gloo

PASSES, ROWS = 3, 2


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))


def inputs() -> torch.Tensor:
    return torch.randn(2 * PASSES * ROWS, 4, generator=torch.Generator().manual_seed(6))


def accumulate(rank: int, world_size: int) -> dict[str, Any]:
    """Gradients after an update's passes, and how often processes exchanged them."""
    processes = Processes(rank, rank, world_size, torch.device("cpu"))
    original = network()
    wrapped = processes.parallel(original)
    assert isinstance(wrapped, DistributedDataParallel)
    exchanged: list[int] = []
    passing = 0

    def hook(state: object, bucket: Any) -> Any:
        exchanged.append(passing)
        work = torch.distributed.all_reduce(bucket.buffer().div_(world_size), async_op=True)
        assert work is not None
        return work.get_future().then(lambda future: future.value()[0])

    hook.__annotations__ = {}  # DDP wants its own there, not their names
    wrapped.register_comm_hook(None, hook)
    mine = inputs().chunk(world_size)[rank]
    synchronising = []
    for passing, (part, context) in enumerate(until_last(mine.chunk(PASSES), wrapped)):  # noqa: B007
        with context:
            synchronising.append(wrapped.require_backward_grad_sync)
            (wrapped(part).square().mean() / PASSES).backward()
    assert wrapped.require_backward_grad_sync
    return {
        "gradients": [parameter.grad for parameter in original.parameters()],
        "exchanged": sorted(set(exchanged)),
        "synchronising": synchronising,
    }


@pytest.mark.dist
def test_processes_exchange_gradients_once_an_update(tmp_path: Path) -> None:
    whole = network()
    whole(inputs()).square().mean().backward()
    for result in run_gloo(accumulate, 2, folder=tmp_path):
        assert result["exchanged"] == [PASSES - 1]
        assert result["synchronising"] == [False] * (PASSES - 1) + [True]
        for ours, parameter in zip(result["gradients"], whole.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad)
