from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from facemtl.heads.margin import ArcFace, CosFace
from facemtl.heads.sharded import ShardedArcFace, ShardedCosFace
from facemtl.heads.sharded_weight import drawn_rows, rows_of
from tests.gloo import run_gloo

DIMENSION, BATCH = 64, 4
PAIRS = {"cosface": (ShardedCosFace, CosFace), "arcface": (ShardedArcFace, ArcFace)}


def whole_weight(num_identities: int, dtype: torch.dtype) -> Tensor:
    return drawn_rows(range(num_identities), DIMENSION, seed=1, device=torch.device("cpu"), dtype=dtype)


def one_process_head(kind: str, num_identities: int, dtype: torch.dtype, lean: bool) -> Any:
    head = PAIRS[kind][1](DIMENSION, num_identities, dtype=dtype, lean=lean)
    head.weight.data = whole_weight(num_identities, dtype)
    return head


def global_batch(num_identities: int, size: int, seed: int, highest: int | None = None) -> tuple[Tensor, Tensor]:
    """Embeddings in float64, and labels (below ``highest``)."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, DIMENSION, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(highest or num_identities, (size,), generator=generator)


def assert_near(got: Tensor, want: Tensor, tolerance: float) -> None:
    """One step of float32 at a logit of 32 is 4e-6, so that single numbers cannot hold 1e-6; all together do."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert float((got - want).norm()) <= tolerance * float(want.norm())


def share_of(rows: Tensor, rank: int) -> Tensor:
    return rows[rank * BATCH : (rank + 1) * BATCH]


def compare_with_one_process(rank: int, world_size: int, identities: list[int]) -> None:
    for number, num_identities in enumerate(identities):
        for kind in PAIRS:
            for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
                for lean in (True, False):
                    # In the last round the batch is of the first process's identities alone.
                    highest = len(rows_of(num_identities, 0, world_size)) if number == len(identities) - 1 else None
                    embeddings, labels = global_batch(num_identities, world_size * BATCH, number, highest)
                    embeddings = embeddings.to(dtype)
                    whole = embeddings.clone().requires_grad_()
                    one = one_process_head(kind, num_identities, dtype, lean)
                    want = one(whole, labels)
                    want.backward()

                    head = PAIRS[kind][0](DIMENSION, num_identities, dtype=dtype, lean=lean, seed=1)
                    mine = share_of(embeddings, rank).clone().requires_grad_()
                    loss = head(mine, share_of(labels, rank))
                    assert_near(
                        head(mine, share_of(labels, rank), reduction="none").detach(),
                        share_of(one(whole, labels, reduction="none"), rank).detach(),
                        tolerance,
                    )
                    loss.backward()
                    total = loss.detach().clone()
                    dist.all_reduce(total)
                    assert_near(total / world_size, want.detach(), tolerance)
                    everybody = torch.empty_like(whole)
                    dist.all_gather_into_tensor(everybody, mine.grad / world_size)
                    assert_near(everybody, whole.grad, tolerance)
                    assert head.weight.grad.to_local().shape == head.weight.to_local().shape
                    assert_near(head.weight.grad.full_tensor(), one.weight.grad, tolerance)


@pytest.mark.dist
@pytest.mark.parametrize(
    ("world_size", "identities"), [(2, [150, 7, 2, 9]), (8, [100, 19, 5, 2, 40])], ids=["2 processes", "8 processes"]
)
def test_loss_and_all_gradients_equal_one_process(world_size: int, identities: list[int], tmp_path: Path) -> None:
    """Uneven shares, fewer identities than processes, processes with no identity of the batch or none at all."""
    run_gloo(compare_with_one_process, world_size, identities, folder=tmp_path, timeout_s=200)


def check_dtypes_and_modes(rank: int, world_size: int) -> None:
    num_identities = 30
    embeddings, labels = global_batch(num_identities, world_size * BATCH, 0)
    head = ShardedCosFace(DIMENSION, num_identities, seed=1, lean=True)
    for dtype in (torch.bfloat16, torch.float16):
        mine = share_of(embeddings, rank).to(dtype)
        want = head(mine.float(), share_of(labels, rank).int())
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = head(mine.requires_grad_(), share_of(labels, rank))
                loss.backward()
            assert loss.dtype == torch.float32
            assert torch.equal(loss, want)
            assert mine.grad.dtype == dtype
            mine = mine.detach()
    with torch.no_grad():
        assert head(mine, share_of(labels, rank)).grad_fn is None
    empty = torch.empty(0, DIMENSION, requires_grad=True)
    loss = head(empty, torch.empty(0, dtype=torch.long))
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert bool(head.weight.grad.to_local().isfinite().all())


def check_copies(rank: int, world_size: int) -> None:
    num_identities = 7
    embeddings, labels = global_batch(num_identities, world_size * BATCH, 0)
    mine, labels = share_of(embeddings, rank).float(), share_of(labels, rank)
    head = ShardedCosFace(DIMENSION, num_identities)
    want = head(mine, labels)
    assert torch.equal(copy.deepcopy(head)(mine, labels), want)
    other = ShardedCosFace(DIMENSION, num_identities, seed=99)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(mine, labels), want)
    # A whole weight, as a head in one process has it, is split on loading.
    other = ShardedCosFace(DIMENSION, num_identities, seed=99)
    full = head.weight.full_tensor().detach()
    state = {"weight": full}
    other.load_state_dict(state)
    assert state["weight"] is full
    assert torch.equal(other(mine, labels), want)
    # All processes took the first one's seed, whatever their own generators say.
    torch.manual_seed(rank)
    again = ShardedCosFace(DIMENSION, num_identities).weight.full_tensor()
    torch.manual_seed(0)
    seed = int(torch.randint(2**63 - 1, ()))
    assert torch.equal(again, drawn_rows(range(num_identities), DIMENSION, seed=seed, device=torch.device("cpu")))


def check_a_group_of_its_own(rank: int, world_size: int) -> None:
    """Ranks 1 and 2 share one head, 0 has another; both at once."""
    groups = [dist.new_group([0]), dist.new_group([1, 2])]
    head = ShardedCosFace(DIMENSION, 7, group=groups[rank > 0], seed=1)
    assert len(head.weight.to_local() if rank else head.weight) == [7, 4, 3][rank]
    embeddings, labels = global_batch(7, 2 * BATCH, 0)
    mine = slice(None) if rank == 0 else slice((rank - 1) * BATCH, rank * BATCH)
    losses = head(embeddings[mine].float(), labels[mine], reduction="none")
    want = one_process_head("cosface", 7, torch.float32, False)(embeddings.float(), labels, reduction="none")
    assert_near(losses.detach(), want[mine].detach(), 1e-6)


@pytest.mark.dist
@pytest.mark.parametrize("check", [check_dtypes_and_modes, check_copies, check_a_group_of_its_own])
def test_in_three_processes(check: Any, tmp_path: Path) -> None:
    run_gloo(check, 3, folder=tmp_path)


def sampled(rank: int, world_size: int) -> None:
    num_identities = 400
    embeddings, labels = global_batch(num_identities, world_size * BATCH, 0)
    mine, own_labels = share_of(embeddings, rank).clone().requires_grad_(), share_of(labels, rank)
    head = ShardedCosFace(DIMENSION, num_identities, seed=1, sample_fraction=0.1, dtype=torch.float64)
    torch.manual_seed(10 + rank)
    loss = head(mine, own_labels)
    loss.backward()
    local = head.weight.grad.to_local()
    drawn = local.abs().sum(1) > 0
    assert int(drawn.sum()) == 20  # a tenth of 200: more than the batch
    first = rank * 200
    positives = [label - first for label in labels.tolist() if first <= label < first + 200]
    assert bool(drawn[positives].all())
    everybody = [torch.empty_like(drawn) for _ in range(world_size)]
    dist.all_gather(everybody, drawn)
    chosen = torch.cat(everybody).nonzero().squeeze(1)
    # What one process gives that has the drawn identities and no others.
    one = CosFace(DIMENSION, len(chosen), dtype=torch.float64)
    one.weight.data = whole_weight(num_identities, torch.float64)[chosen]
    whole = embeddings.clone().requires_grad_()
    one(whole, torch.searchsorted(chosen, labels)).backward()
    assert_near(mine.grad / world_size, share_of(whole.grad, rank), 1e-12)
    assert_near(head.weight.grad.full_tensor()[chosen], one.weight.grad, 1e-12)
    head.weight.grad = None
    head(mine, own_labels).backward()
    assert not torch.equal(head.weight.grad.to_local().abs().sum(1) > 0, drawn)  # others the next time


@pytest.mark.dist
def test_partial_fc_is_the_softmax_over_the_drawn_identities(tmp_path: Path) -> None:
    run_gloo(sampled, 2, folder=tmp_path)


def test_partial_fc_in_one_process() -> None:
    head = ShardedCosFace(DIMENSION, 300, sample_fraction=0.05, dtype=torch.float64)
    embeddings, labels = global_batch(300, 6, 0)
    head(embeddings, labels).backward()
    chosen = (head.weight.grad.abs().sum(1) > 0).nonzero().squeeze(1)
    assert len(chosen) == 15
    one = CosFace(DIMENSION, 15, dtype=torch.float64)
    one.weight.data = head.weight.detach()[chosen]
    one(embeddings, torch.searchsorted(chosen, labels)).backward()
    assert_near(head.weight.grad[chosen], one.weight.grad, 1e-12)


@pytest.mark.parametrize("kind", PAIRS)
def test_in_one_process_it_is_the_ordinary_head(kind: str) -> None:
    for lean in (None, True):
        head = PAIRS[kind][0](DIMENSION, 50, lean=lean)
        one = PAIRS[kind][1](DIMENSION, 50, lean=lean)
        one.load_state_dict(head.state_dict())
        embeddings, labels = global_batch(50, 6, 0)
        losses = []
        for each in (head, one):
            losses.append(each(embeddings.float(), labels))
            losses[-1].backward()
        assert torch.equal(losses[0], losses[1])
        assert torch.equal(head.weight.grad, one.weight.grad)


def tensor_sizes(rank: int, world_size: int) -> tuple[int, int]:
    from torch.distributed.tensor import DTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    class Largest(TorchDispatchMode):
        """The most elements that the result of any operation has, forward and backward."""

        elements = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for value in tree_flatten(result)[0]:
                if isinstance(value, Tensor) and not isinstance(value, DTensor):  # those tell the shape of the whole
                    self.elements = max(self.elements, value.numel())
            return result

    num_identities, batch, dimension = 40_000, 64, 16
    head = ShardedCosFace(dimension, num_identities)
    embeddings = torch.randn(batch, dimension, requires_grad=True)
    labels = torch.randint(num_identities, (batch,))
    with Largest() as largest:
        head(embeddings, labels).backward()
    return largest.elements, head.weight.to_local().numel()


@pytest.mark.dist
def test_no_tensor_is_larger_than_a_block_or_the_own_weight(tmp_path: Path) -> None:
    """A global batch x own identities matrix would have 128 x 20,000 elements, one with all twice as many."""
    from facemtl.heads.lean import _BLOCK_ELEMENTS

    for largest, own in run_gloo(tensor_sizes, 2, folder=tmp_path):
        assert own == 20_000 * 16
        assert own <= largest <= max(_BLOCK_ELEMENTS, own) < 128 * 20_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_without_waiting_for_the_device() -> None:
    head = ShardedCosFace(DIMENSION, 300, sample_fraction=0.1, device="cuda")
    embeddings, labels = torch.randn(6, DIMENSION, device="cuda"), torch.randint(300, (6,), device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        head(embeddings, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
