"""Flips and facts of a run, whatever its seed, its step and the number of its processes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemtl import collate_faces, to_model_input
from facemtl.data.samples import FaceBatch
from facemtl.training.interruption import StopRequest
from facemtl.training.presets import lcaf_8gpu, one_gpu, quick, scaf_8gpu
from facemtl.training.processes import Processes
from facemtl.training.run import Run, build_run
from facemtl.training.run_facts import check_run, flat, plain, run_facts
from tests.small_runs import ALONE, SIDE, small_settings

BATCH = 8


@cache
def run() -> Run:
    return build_run(small_settings(Path(tempfile.gettempdir()) / "nothing-is-written"), ALONE, StopRequest())


@cache
def batch() -> FaceBatch:
    return collate_faces(run().faces.training.__getitems__(range(BATCH)))


@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 10**6), purpose=st.integers(0, 9))
@settings(max_examples=10)
def test_any_number_of_processes_flips_the_same_faces(seed: int, step: int, purpose: int) -> None:
    plain_faces = to_model_input(batch().images)
    whole = replace(run(), settings=replace(run().settings, seed=seed)).pixels(batch(), step, purpose=purpose)
    assert whole.shape == (BATCH, 3, SIDE, SIDE)
    for world_size in (2, 4, 8):
        shares, flipped = [], []
        for rank in range(world_size):
            processes = Processes(rank, rank, world_size, torch.device("cpu"))
            one = replace(run(), processes=processes, settings=replace(run().settings, seed=seed))
            share = FaceBatch(*(column.chunk(world_size)[rank] for column in batch()))
            shares.append(one.pixels(share, step, purpose=purpose))
            flipped.append(one.flipped(len(share.images), step, purpose=purpose))
        assert torch.equal(torch.cat(shares), whole)
        where = torch.cat(flipped)[:, None, None, None]
        assert torch.equal(torch.where(where, plain_faces.flip(-1), plain_faces), whole)


def test_faces_are_flipped_or_not_and_scaled() -> None:
    plain_faces = batch().images / 127.5 - 1
    flipped = 0
    for step in range(20):
        for ours, face in zip(run().pixels(batch(), step, purpose=1), plain_faces, strict=True):
            mirrored = torch.allclose(ours, face.flip(-1), atol=1e-6)
            assert mirrored or torch.allclose(ours, face, atol=1e-6)
            flipped += mirrored
    assert 50 < flipped < 110  # of 160: five standard deviations about a half
    assert not torch.equal(run().pixels(batch(), 1, purpose=1), run().pixels(batch(), 1, purpose=2))


def test_facts_are_json_and_those_of_the_same_run() -> None:
    mine = run_facts(run().settings, run().faces)
    for preset in (lcaf_8gpu, scaf_8gpu, one_gpu, quick):
        assert json.loads(json.dumps(plain(preset()))) == plain(preset())
    facts = json.loads(json.dumps(mine))
    assert facts == mine
    check_run(facts, mine, folder=Path("run"))


nests = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, min_size=1),
    max_leaves=6,
)


@given(nested=st.dictionaries(st.text("abc", min_size=1, max_size=3), nests))
def test_flat_names_lead_to_their_values(nested: dict[str, object]) -> None:
    for name, value in flat(nested).items():
        place: object = nested
        for part in name.split("."):
            assert isinstance(place, dict)
            place = place[part]
        assert place == value
        assert not isinstance(value, dict)
    assert len(flat(nested)) == json.dumps(nested).count(": ") - json.dumps(nested).count(": {")
