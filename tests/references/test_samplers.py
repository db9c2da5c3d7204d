"""Samplers held to numbers written down once, to other processes, and to DataLoader's workers."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from facemtl.data.balanced_sampler import BalancedSampler
from facemtl.data.identity_sampler import IdentitySampler
from facemtl.data.random_words import random_words
from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.samples import FaceSample, collate_faces
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.target_group_sampler import TargetGroupSampler
from facemtl.data.target_groups import TargetGroupBatch, TargetGroupCollator

AGES = np.arange(0, 100, 0.5)
PINNED_WORDS = [3212055565863337611, 13252148322626228353]
PINNED_BATCHES = [
    [178, 68, 26, 163, 126, 66],
    [48, 94, 43, 65, 68, 36],
    [73, 71, 33, 34, 173, 174],
    [22, 47, 23, 22, 49, 86],
]
SCRIPT = """
import json, sys
sys.path.insert(0, ".")
from tests.references.test_samplers import samplers
print(json.dumps([sampler.batch(10**6) for sampler in samplers()]))
"""


def samplers() -> list[GlobalBatchSampler]:
    genders, identities = np.arange(200) % 2, np.arange(200) // 5
    return [
        ShuffledSampler(200, global_batch_size=6, seed=11),
        BalancedSampler(AGES, genders, global_batch_size=6, seed=11),
        IdentitySampler(identities, identities_per_batch=3, faces_per_identity=2, seed=11),
        TargetGroupSampler(AGES, global_batch_size=3, seed=11),
    ]


class Faces(Dataset[FaceSample]):
    """Faces whose pixels say which they are."""

    def __len__(self) -> int:
        return len(AGES)

    def __getitem__(self, index: int) -> FaceSample:
        return FaceSample(torch.full((3, 4, 4), index, dtype=torch.uint8), index // 5, AGES[index], index % 2, index)


def test_philox_gives_the_words_of_its_authors() -> None:
    """Random123's known answer for philox4x64-10 with counter and key 0 (NumPy counts up before each block)."""
    words = np.random.Philox(counter=np.full(4, 2**64 - 1, np.uint64), key=np.zeros(2, np.uint64)).random_raw(4)
    assert [hex(word) for word in words.tolist()] == [
        "0x16554d9eca36314c",
        "0xdb20fe9d672d0fdc",
        "0xd7e772cee186176b",
        "0x7e68b68aec7ba23b",
    ]
    assert random_words(1, (2, 3, 4), start=5, count=2).tolist() == PINNED_WORDS


def test_batches_are_those_of_the_day_that_they_were_written_down() -> None:
    assert [sampler.batch(1000) for sampler in samplers()] == PINNED_BATCHES


def test_another_process_draws_the_same() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, text=True)
    assert json.loads(run.stdout) == [sampler.batch(10**6) for sampler in samplers()]


@pytest.mark.parametrize("number", range(3))
def test_workers_give_the_batches_of_one_process(number: int) -> None:
    sampler = samplers()[number]
    sampler.start_at(5)
    loaders = [
        DataLoader(Faces(), batch_sampler=sampler, collate_fn=collate_faces, num_workers=workers) for workers in (0, 2)
    ]
    for batch, (alone, shared) in enumerate(zip(*(islice(loader, 4) for loader in loaders), strict=True)):
        assert alone.indices.tolist() == shared.indices.tolist() == sampler.batch(5 + batch)
        assert (shared.images == shared.indices[:, None, None, None]).all()
        assert shared.ages.tolist() == AGES[shared.indices].tolist()


def test_a_consumed_count_resumes_where_prefetching_has_run_ahead() -> None:
    def consume(sampler: GlobalBatchSampler, steps: int) -> list[TargetGroupBatch]:
        loader = DataLoader(Faces(), batch_sampler=sampler, collate_fn=TargetGroupCollator(), num_workers=2)
        return list(islice(loader, steps))

    whole = consume(samplers()[3], 5)
    first = samplers()[3]
    begun = consume(first, 2)
    again = samplers()[3]
    again.load_state_dict(first.state_dict(len(begun)))
    for got, wanted in zip(begun + consume(again, 3), whole, strict=True):
        assert torch.equal(got.sources.indices, wanted.sources.indices)
        assert torch.equal(got.target_faces.images, wanted.target_faces.images)
        groups = np.digitize(got.target_faces.ages, (10, 20, 30, 40, 50, 60), right=True)
        assert got.target_groups.tolist() == groups.tolist()
        assert got.to("cpu").sources.ages.tolist() == got.sources.ages.tolist()


def test_images_in_one_buffer_are_not_copied() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        buffer = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5).to(memory_format=layout)
        samples = [FaceSample(image, 0, 5.0, 1, index) for index, image in enumerate(buffer)]
        batch = collate_faces(samples)
        assert batch.images.data_ptr() == buffer.data_ptr()
        assert torch.equal(batch.images, buffer)
        assert torch.equal(collate_faces(samples[::-1]).images, buffer.flip(0))
        assert torch.equal(collate_faces(samples[:1] * 2).images, buffer[[0, 0]])


def test_process_group_gives_rank_and_world_size(tmp_path: object) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        sampler = ShuffledSampler(4, global_batch_size=2)
        assert (sampler.rank, sampler.world_size) == (0, 1)
    finally:
        torch.distributed.destroy_process_group()
