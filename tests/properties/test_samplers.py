from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.balanced_sampler import BalancedSampler
from facemtl.data.identity_sampler import IdentitySampler
from facemtl.data.random_words import random_words
from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.target_group_sampler import TargetGroupSampler

WORLDS = (1, 2, 3, 4, 6)
EDGES = (10, 20, 30, 40, 50, 60)
GLOBAL = 12  # divides into shares for each of WORLDS


def drawn_labels(seed: int, num_faces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ages and genders in which no cell is empty and some are unknown, and identities of very unequal size."""
    random = np.random.default_rng(seed)
    ages = np.concatenate((np.repeat([5.0, 15, 25, 35, 45, 55, 65], 2), random.uniform(0, 100, num_faces)))
    genders = np.concatenate((np.tile([0, 1], 7), random.integers(-1, 2, num_faces)))
    ages[14:][random.random(num_faces) < 0.1] = np.nan
    identities = np.concatenate((np.arange(14), random.geometric(0.1, num_faces) - 2))
    return ages, genders, identities


def counts_of_cells(ages: np.ndarray, genders: np.ndarray) -> list[int]:
    groups = np.digitize(ages, EDGES, right=True)
    return [int(((groups == group) & (genders == gender)).sum()) for group in range(7) for gender in (0, 1)]


def every_kind(seed: int, num_faces: int) -> list[Callable[[int, int], GlobalBatchSampler]]:
    ages, genders, identities = drawn_labels(seed, num_faces)
    return [
        lambda rank, world: ShuffledSampler(
            len(ages), global_batch_size=GLOBAL, seed=seed, rank=rank, world_size=world
        ),
        lambda rank, world: BalancedSampler(
            ages, genders, global_batch_size=GLOBAL, seed=seed, rank=rank, world_size=world
        ),
        lambda rank, world: IdentitySampler(
            identities, identities_per_batch=GLOBAL, faces_per_identity=3, seed=seed, rank=rank, world_size=world
        ),
        lambda rank, world: TargetGroupSampler(ages, global_batch_size=GLOBAL, seed=seed, rank=rank, world_size=world),
    ]


@given(seed=st.integers(0, 2**64 - 1), kind=st.integers(0, 3), num_faces=st.integers(0, 60), step=st.integers(0, 10**9))
def test_ranks_share_the_global_batch(seed: int, kind: int, num_faces: int, step: int) -> None:
    make = every_kind(seed, num_faces)[kind]
    whole = make(0, 1).batch(step)
    for world in WORLDS:
        shares = [make(rank, world).batch(step) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1
        if kind == 3:  # sources of all ranks, then targets of all ranks
            half = len(shares[0]) // 2
            shares = [share[:half] for share in shares] + [share[half:] for share in shares]
        assert [index for share in shares for index in share] == whole
        assert make(world - 1, world).global_batch(step) == whole


@given(
    seed=st.integers(0, 99),
    kind=st.integers(0, 3),
    worlds=st.lists(st.sampled_from(WORLDS), min_size=1, max_size=4),
    lengths=st.lists(st.integers(0, 5), min_size=4, max_size=4),
)
def test_resuming_at_any_step_and_world_size_goes_on(
    seed: int, kind: int, worlds: list[int], lengths: list[int]
) -> None:
    make = every_kind(seed, 30)[kind]
    reference = list(islice(make(0, 1), sum(lengths)))
    step, got, state = 0, [], make(0, 1).state_dict(0)
    for world, length in zip(worlds, lengths, strict=False):
        samplers = [make(rank, world) for rank in range(world)]
        loops = []
        for sampler in samplers:
            sampler.load_state_dict(state)
            loops.append(iter(sampler))
        for _ in range(length):
            shares = [next(loop) for loop in loops]
            assert sorted(index for share in shares for index in share) == sorted(reference[step])
            got.append(shares)
            step += 1
        for loop in loops:  # what workers have prefetched beyond what was consumed changes nothing
            next(loop)
        state = samplers[0].state_dict(step)
    assert len(got) == step


@given(num_faces=st.integers(1, 50), batch=st.integers(1, 120), seed=st.integers(0, 2**64 - 1))
def test_an_epoch_holds_each_face_once_across_seams(num_faces: int, batch: int, seed: int) -> None:
    sampler = ShuffledSampler(num_faces, global_batch_size=batch, seed=seed)
    epochs = 4
    stream = [index for step in range(-(-epochs * num_faces // batch)) for index in sampler.batch(step)]
    orders = [stream[epoch * num_faces : (epoch + 1) * num_faces] for epoch in range(epochs)]
    for order in orders:
        assert sorted(order) == list(range(num_faces))
    if num_faces > 30:
        assert len({tuple(order) for order in orders}) == epochs


@given(seed=st.integers(0, 10**6), first=st.integers(0, 50), length=st.integers(1, 8), num_faces=st.integers(0, 200))
def test_balance_is_exact_in_every_stretch_of_batches(seed: int, first: int, length: int, num_faces: int) -> None:
    ages, genders, _ = drawn_labels(seed, num_faces)
    sampler = BalancedSampler(ages, genders, global_batch_size=10, seed=seed)
    assert sampler.num_left_out == int((np.isnan(ages) | (genders < 0)).sum())
    stretch = np.array([sampler.batch(step) for step in range(first, first + length)]).reshape(-1)
    counts = counts_of_cells(ages[stretch], genders[stretch])
    assert sum(counts) == length * 10  # nobody unknown
    assert max(counts) - min(counts) <= 2
    start = np.array([sampler.batch(step) for step in range(length)]).reshape(-1)
    counts = counts_of_cells(ages[start], genders[start])
    assert max(counts) - min(counts) <= 1


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 60))
def test_faces_of_a_cell_take_turns(seed: int, steps: int) -> None:
    ages, genders, _ = drawn_labels(seed, 60)
    sampler = BalancedSampler(ages, genders, global_batch_size=14, seed=seed)
    drawn = Counter(np.array([sampler.batch(step) for step in range(steps)]).reshape(-1).tolist())
    assert sum(drawn.values()) == 14 * steps
    groups = np.digitize(ages, EDGES, right=True)
    for group in range(7):
        for gender in (0, 1):
            cell = np.flatnonzero((groups == group) & (genders == gender) & ~np.isnan(ages))
            counts = [drawn[int(face)] for face in cell]
            assert sum(counts) == steps  # a batch of 14 is a cycle
            assert max(counts) - min(counts) <= 1


@given(
    seed=st.integers(0, 10**6),
    people=st.integers(1, 5),
    faces=st.integers(1, 5),
    first=st.integers(0, 30),
    policy=st.sampled_from(("repeat", "leave_out")),
)
def test_identity_batches_hold_p_people_with_k_faces(
    seed: int, people: int, faces: int, first: int, policy: str
) -> None:
    identities = np.concatenate((np.repeat(np.arange(5), 5), drawn_labels(seed, 60)[2] + 5))
    sizes = Counter(identities[identities >= 0].tolist())
    sampler = IdentitySampler(
        identities, identities_per_batch=people, faces_per_identity=faces, seed=seed, on_few_faces=policy
    )
    able = [name for name, size in sizes.items() if policy == "repeat" or size >= faces]
    assert sampler.num_identities == len(able)
    assert sampler.num_left_out == len(identities) - sum(sizes[name] for name in able)
    for step in range(first, first + 3):
        rows = np.array(sampler.batch(step)).reshape(people, faces)
        names = identities[rows]
        assert (names == names[:, :1]).all()
        assert len(set(names[:, 0])) == people
        for row, name in zip(rows.tolist(), names[:, 0], strict=True):
            counts = Counter(row)
            assert len(counts) == min(faces, sizes[name])
            assert max(counts.values()) - min(counts.values()) <= 1


@given(seed=st.integers(0, 10**6), people=st.integers(1, 6), faces=st.integers(1, 4))
def test_people_come_once_an_epoch_and_their_faces_in_turns(seed: int, people: int, faces: int) -> None:
    identities = np.repeat(np.arange(6), (4, 4, 5, 6, 8, 12))
    sampler = IdentitySampler(identities, identities_per_batch=people, faces_per_identity=faces, seed=seed)
    batches = 6 // people
    for epoch in range(5):
        rows = [sampler.batch(step) for step in range(epoch * batches, (epoch + 1) * batches)]
        names = identities[np.array(rows).reshape(-1, faces)[:, 0]]
        assert len(set(names)) == len(names) == batches * people
    if 6 % people == 0:  # every person is visited in every epoch: no face comes again before the others have come
        visits: dict[int, list[int]] = {}
        for step in range(4 * batches):
            for row in np.array(sampler.batch(step)).reshape(-1, faces):
                visits.setdefault(int(identities[row[0]]), []).extend(row.tolist())
        for name, seen in visits.items():
            turn = int((identities == name).sum()) // faces * faces
            for start in range(0, len(seen) - turn + 1, turn):
                assert len(set(seen[start : start + turn])) == turn


@given(seed=st.integers(0, 10**6), num_faces=st.integers(0, 60), steps=st.integers(1, 12))
def test_targets_are_uniform_over_groups_and_sources_are_all_faces(seed: int, num_faces: int, steps: int) -> None:
    ages, _, _ = drawn_labels(seed, num_faces)
    sampler = TargetGroupSampler(ages, global_batch_size=7, seed=seed)
    assert sampler.num_left_out == int(np.isnan(ages).sum())
    pairs = np.array([sampler.batch(step) for step in range(steps)])
    sources, targets = pairs[:, :7].reshape(-1), pairs[:, 7:]
    groups = np.digitize(ages[targets], EDGES, right=True)
    assert (np.sort(groups, axis=1) == np.arange(7)).all()  # each group once in seven
    epoch = sources[: len(ages)]
    assert len(set(epoch.tolist())) == len(epoch)


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.tuples(*[st.integers(0, 2**64 - 1)] * 3),
    start=st.integers(0, 2**40),
    cut=st.integers(0, 20),
)
def test_words_are_the_same_wherever_a_stretch_begins(
    seed: int, stream: tuple[int, int, int], start: int, cut: int
) -> None:
    whole = random_words(seed, stream, start=start, count=20)
    parts = (
        random_words(seed, stream, start=start, count=cut),
        random_words(seed, stream, start=start + cut, count=20 - cut),
    )
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    other = random_words(seed, (stream[0], stream[1], stream[2] ^ 1), start=start, count=20)
    assert not (other == whole).any()


@pytest.mark.parametrize("seed", range(3))
def test_orders_are_uniform(seed: int) -> None:
    """All 24 orders of four faces are equally frequent: χ² of 4,800 epochs, 23 degrees of freedom."""
    sampler = ShuffledSampler(4, global_batch_size=4, seed=seed)
    counts = np.array(list(Counter(tuple(sampler.batch(step)) for step in range(4800)).values()))
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 58  # once in 10,000 seeds it is more


def test_target_groups_know_nothing_of_their_sources() -> None:
    """χ² of source group against target group, 36 degrees of freedom, over 14,000 pairs."""
    ages = np.linspace(0, 100, 700)
    sampler = TargetGroupSampler(ages, global_batch_size=100, seed=5)
    pairs = np.array([sampler.batch(step) for step in range(140)])
    source = np.digitize(ages[pairs[:, :100]], EDGES, right=True).reshape(-1)
    target = np.digitize(ages[pairs[:, 100:]], EDGES, right=True).reshape(-1)
    table = np.zeros((7, 7))
    np.add.at(table, (source, target), 1)
    wanted = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert ((table - wanted) ** 2 / wanted).sum() < 76  # once in 10,000 seeds it is more
