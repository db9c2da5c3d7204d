"""Several steps of training with a head split over processes, and checkpoints between different numbers of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facemtl.heads.margin import CosFace
from facemtl.heads.sharded import ShardedCosFace
from tests.gloo import run_gloo
from tests.references.test_sharded import (
    BATCH,
    DIMENSION,
    assert_near,
    global_batch,
    one_process_head,
    share_of,
    whole_weight,
)


def sgd(parameters: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def make_encoder(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(DIMENSION, 20), nn.Tanh(), nn.Linear(20, DIMENSION)).to(dtype)


def train_with_ddp(rank: int, world_size: int, dtype: torch.dtype, tolerance: float) -> None:
    num_identities, steps = 11, 5
    encoder, one_encoder = nn.parallel.DistributedDataParallel(make_encoder(dtype)), make_encoder(dtype)
    head, one_head = (
        ShardedCosFace(DIMENSION, num_identities, seed=1, dtype=dtype),
        one_process_head("cosface", num_identities, dtype, False),
    )
    optimizer, one_optimizer = (
        sgd([{"params": [*e.parameters()]}, {"params": [h.weight]}])
        for e, h in ((encoder, head), (one_encoder, one_head))
    )
    for step in range(steps):
        images, labels = global_batch(num_identities, world_size * BATCH, step)
        images = images.to(dtype)
        optimizer.zero_grad()
        head(encoder(share_of(images, rank)), share_of(labels, rank)).backward()
        optimizer.step()
        one_optimizer.zero_grad()
        one_head(one_encoder(images), labels).backward()
        one_optimizer.step()
    assert_near(head.weight.full_tensor().detach(), one_head.weight.detach(), tolerance)
    for left, right in zip(encoder.parameters(), one_encoder.parameters(), strict=True):
        assert_near(left.detach(), right.detach(), tolerance)


@pytest.mark.dist
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-12)], ids=str)
def test_five_steps_with_an_encoder_under_ddp_equal_one_process(
    dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    run_gloo(train_with_ddp, 3, dtype, tolerance, folder=tmp_path)


def trained(head: Any, rank: int, world_size: int, steps: range, momentum: Tensor | None = None) -> torch.optim.SGD:
    """Take steps of a global batch of 8, each process its share."""
    optimizer = sgd([head.weight])
    if momentum is not None:
        optimizer.state[head.weight]["momentum_buffer"] = momentum
    share = 8 // world_size
    for step in steps:
        embeddings, labels = global_batch(9, 8, step)
        mine = slice(rank * share, (rank + 1) * share)
        optimizer.zero_grad()
        head(embeddings[mine], labels[mine]).backward()
        optimizer.step()
    return optimizer


def saved(rank: int, world_size: int, folder: str) -> None:
    import torch.distributed.checkpoint as dcp

    head = ShardedCosFace(DIMENSION, 9, seed=1, dtype=torch.float64)
    optimizer = trained(head, rank, world_size, range(3))
    momentum = optimizer.state[head.weight]["momentum_buffer"]
    dcp.save({**head.state_dict(), "momentum": momentum}, checkpoint_id=folder, no_dist=world_size == 1)


def resumed(rank: int, world_size: int, folder: str) -> None:
    """The second half of the steps, from the checkpoint, equals six steps of one process."""
    import torch.distributed.checkpoint as dcp

    head = ShardedCosFace(DIMENSION, 9, seed=99, dtype=torch.float64)
    momentum = torch.zeros_like(head.weight).detach()
    state = {**head.state_dict(), "momentum": momentum}
    dcp.load(state, checkpoint_id=folder, no_dist=world_size == 1)
    trained(head, rank, world_size, range(3, 6), momentum)
    one = CosFace(DIMENSION, 9, dtype=torch.float64)
    one.weight.data = whole_weight(9, torch.float64)
    trained(one, 0, 1, range(6))
    weight = head.weight.detach()
    assert_near(weight if world_size == 1 else weight.full_tensor(), one.weight.detach(), 1e-12)


@pytest.mark.dist
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # so it is in one process
def test_a_checkpoint_of_some_processes_is_resumed_by_others(tmp_path: Path) -> None:
    """Nine identities: 3, 3, 3 and 0 in four processes, 5 and 4 in two."""
    run_gloo(saved, 4, str(tmp_path / "of 4"), folder=tmp_path)
    resumed(0, 1, str(tmp_path / "of 4"))
    run_gloo(resumed, 2, str(tmp_path / "of 4"), folder=tmp_path)
    saved(0, 1, str(tmp_path / "of 1"))
    run_gloo(resumed, 2, str(tmp_path / "of 1"), folder=tmp_path)
