"""Random numbers of a step as pure functions of seed, step and place."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.data.transforms import random_flip
from facemtl.training.randomness import seed_step, step_generator

SEEDS = st.integers(0, 2**64 - 1)
STEPS = st.integers(0, 2**40)
RANKS = st.integers(0, 511)
PHASES = st.integers(0, 2**32 - 1)


def mask(seed: int, step: int, rank: int, phase: int) -> Tensor:
    seed_step(seed, step, rank, phase=phase)
    return nn.functional.dropout(torch.ones(4, 64), 0.5)


@given(place=st.tuples(SEEDS, STEPS, RANKS, PHASES), before=SEEDS, draws=st.integers(0, 5))
def test_a_mask_depends_on_its_place_alone(place: tuple[int, int, int, int], before: int, draws: int) -> None:
    first = mask(*place)
    torch.manual_seed(before)
    torch.rand(draws)
    assert torch.equal(mask(*place), first)


@given(
    place=st.tuples(SEEDS, STEPS, RANKS, PHASES),
    which=st.integers(0, 3),
    change=st.integers(1, 100),
)
def test_a_mask_differs_if_any_number_does(place: tuple[int, int, int, int], which: int, change: int) -> None:
    limits = (2**64, 2**41, 512, 2**32)
    other = list(place)
    other[which] = (place[which] + change) % limits[which]
    assume(other[which] != place[which])
    assert not torch.equal(mask(*place), mask(*other))  # by chance: the CPU's generator takes 32 bits, so 2⁻³²


def test_neighbours_all_differ() -> None:
    masks = {tuple(mask(*place).flatten().tolist()) for place in itertools.product(range(3), repeat=4)}
    assert len(masks) == 3**4


@given(seed=SEEDS, step=STEPS, purpose=PHASES, faces=st.integers(1, 5), world_size=st.sampled_from([1, 2, 4, 8]))
def test_any_number_of_processes_flips_the_same_faces(
    seed: int, step: int, purpose: int, faces: int, world_size: int
) -> None:
    share = 8 * faces // world_size
    images = torch.arange(8 * faces * 6).reshape(8 * faces, 1, 2, 3)
    together = random_flip(images, generator=step_generator(seed, step, purpose=purpose))
    parts = [
        random_flip(part, generator=step_generator(seed, step, purpose=purpose, skip=rank * share))
        for rank, part in enumerate(images.split(share))
    ]
    assert torch.equal(torch.cat(parts), together)


def test_half_of_the_faces_are_flipped_and_purposes_and_steps_differ() -> None:
    draws = torch.stack(
        [torch.rand(64, generator=step_generator(5, step, purpose=p)) for step in (0, 1) for p in (0, 1)]
    )
    assert abs((draws < 0.5).float().mean() - 0.5) < 0.1
    assert torch.corrcoef(draws).triu(1).abs().max() < 0.4
    assert not torch.equal(torch.rand(64, generator=step_generator(6, 0, purpose=0)), draws[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_masks_on_a_gpu() -> None:
    def on_gpu(step: int) -> Tensor:
        seed_step(1, step, 0)
        return nn.functional.dropout(torch.ones(256, device="cuda"), 0.5)

    assert torch.equal(on_gpu(4), on_gpu(4))
    assert not torch.equal(on_gpu(4), on_gpu(5))
