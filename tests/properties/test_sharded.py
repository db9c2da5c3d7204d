from __future__ import annotations

import itertools
from unittest import mock

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from facemtl.heads import lean as lean_module
from facemtl.heads import sharded_weight
from facemtl.heads.cross_entropy import plain_contrast
from facemtl.heads.lean import Contrast, lean_contrast
from facemtl.heads.sharded_contrast import draw_identities, own_labels, position_among
from facemtl.heads.sharded_weight import drawn_rows, rows_of

CPU = torch.device("cpu")
seeds = st.integers(0, 2**16)


def combined(parts: list[Contrast]) -> Contrast:
    return Contrast(
        torch.stack([part.targets for part in parts]).sum(0),
        torch.stack([part.negatives for part in parts]).logsumexp(0),
    )


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 2),
    batch=st.integers(0, 9),
    dimension=st.integers(1, 9),
    scale=st.floats(0.1, 100.0),
    lean=st.booleans(),
    seed=seeds,
)
@example(sizes=[1, 1], batch=4, dimension=2, scale=64.0, lean=True, seed=0)
@example(sizes=[1, 1], batch=4, dimension=2, scale=64.0, lean=False, seed=0)
@example(sizes=[1, 0, 2], batch=3, dimension=5, scale=64.0, lean=True, seed=0)
def test_the_parts_together_are_the_whole(
    sizes: list[int], batch: int, dimension: int, scale: float, lean: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    identities = sum(sizes)
    unit, weight, weights = F.normalize(draw(batch, dimension)), draw(identities, dimension), draw(2, batch)
    labels = torch.randint(identities, (batch,), generator=generator)
    way = lean_contrast if lean else plain_contrast
    results = []
    with mock.patch.object(lean_module, "_BLOCK_ELEMENTS", 1):
        for edges in ([0, identities], [0, *itertools.accumulate(sizes)]):
            first, second = unit.clone().requires_grad_(), weight.clone().requires_grad_()
            outputs = combined(
                [
                    way(first, second[start:end], own_labels(labels, start, end - start), scale=scale)
                    for start, end in itertools.pairwise(edges)
                ]
            )
            (weights[0] @ outputs.targets + weights[1] @ outputs.negatives).backward()
            results.append((*outputs, first.grad, second.grad))
    for left, right in zip(*results, strict=True):
        size = float(right.detach().abs().max()) if right.numel() else 1.0
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10 * max(size, 1.0))


@given(batch=st.integers(1, 5), seed=seeds)
def test_half_precision_weights_of_one_identity_have_finite_gradients(batch: int, seed: int) -> None:
    """The only identity is everybody's own: the sum of the negatives is empty, and its gradient nothing."""
    generator = torch.Generator().manual_seed(seed)
    for dtype in (torch.float32, torch.bfloat16):  # exponentials kept, and computed again
        unit = F.normalize(torch.randn(batch, 8, generator=generator)).requires_grad_()
        weight = torch.randn(1, 8, generator=generator).to(dtype).requires_grad_()
        contrast = lean_contrast(unit, weight, torch.zeros(batch, dtype=torch.long), scale=64.0)
        assert bool((contrast.negatives == -torch.inf).all())
        (contrast.targets.sum() + 0.0 * contrast.negatives.exp().sum()).backward()
        assert bool(unit.grad.isfinite().all() and weight.grad.isfinite().all())


@given(
    rows=st.integers(1, 60),
    first=st.integers(0, 40),
    labels=st.lists(st.integers(0, 99), max_size=12),
    fraction=st.floats(0.01, 0.99),
    seed=seeds,
)
def test_drawn_identities(rows: int, first: int, labels: list[int], fraction: float, seed: int) -> None:
    torch.manual_seed(seed)
    own = own_labels(torch.tensor(labels, dtype=torch.long), first, rows)
    assert own.tolist() == [label - first if first <= label < first + rows else -1 for label in labels]
    drawn = draw_identities(own, rows, fraction)
    chosen = drawn.tolist()
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(rows))
    assert {label for label in own.tolist() if label >= 0} <= set(chosen)
    assert min(fraction * rows, rows) <= len(chosen) <= min(max(fraction * rows + 1, len(labels) + 1), rows)
    positions = position_among(drawn, own).tolist()
    assert [chosen[p] if p >= 0 else -1 for p in positions] == own.tolist()


def test_others_are_drawn_uniformly() -> None:
    torch.manual_seed(0)
    own, rows, rounds = torch.tensor([3, -1, 3]), 40, 4000
    counts = torch.zeros(rows)
    for _ in range(rounds):
        counts[draw_identities(own, rows, 0.25)] += 1
    assert counts[3] == rounds
    others = counts[torch.arange(rows) != 3] / rounds  # 9 of 39 each time
    deviation = (9 / 39 * 30 / 39 / rounds) ** 0.5
    assert float((others - 9 / 39).abs().max()) < 4.5 * deviation


@given(identities=st.integers(2, 300), processes=st.integers(1, 12))
def test_processes_share_the_identities_as_dtensor_does(identities: int, processes: int) -> None:
    shares = [rows_of(identities, rank, processes) for rank in range(processes)]
    assert [number for rows in shares for number in rows] == list(range(identities))
    chunks = [len(chunk) for chunk in torch.arange(identities).chunk(processes)]
    assert [len(rows) for rows in shares] == chunks + [0] * (processes - len(chunks))


@given(identities=st.integers(2, 60), processes=st.integers(1, 9), seed=st.integers(0, 2**63 - 1))
def test_initial_rows_do_not_depend_on_the_number_of_processes(identities: int, processes: int, seed: int) -> None:
    with mock.patch.object(sharded_weight, "_BLOCK_ROWS", 8):
        whole = drawn_rows(range(identities), 3, seed=seed, device=CPU)
        parts = [drawn_rows(rows_of(identities, r, processes), 3, seed=seed, device=CPU) for r in range(processes)]
    assert torch.equal(torch.cat(parts), whole)


@given(seed=st.integers(0, 2**63 - 1), start=st.integers(0, 2**32 - 2000))
def test_no_two_blocks_are_drawn_from_the_same_seed(seed: int, start: int) -> None:
    assert len({sharded_weight._block_seed(seed, block) for block in range(start, start + 2000)}) == 2000


def test_initial_rows_are_normal() -> None:
    rows = drawn_rows(range(500, 4500), 32, seed=5, device=CPU).double() / 0.01
    count = rows.numel()
    assert abs(float(rows.mean())) < 4 / count**0.5
    assert abs(float(rows.var()) - 1) < 4 * (2 / count) ** 0.5
    assert abs(float((rows.abs() > 1.959964).double().mean()) - 0.05) < 4 * (0.05 * 0.95 / count) ** 0.5
    assert len(torch.unique(rows)) > 0.99 * count
    other = drawn_rows(range(500, 4500), 32, seed=6, device=CPU).double() / 0.01
    assert abs(float((rows * other).mean())) < 4 / count**0.5
