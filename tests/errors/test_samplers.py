from __future__ import annotations

import numpy as np
import pytest
import torch

from facemtl.data.balanced_sampler import BalancedSampler
from facemtl.data.identity_sampler import IdentitySampler
from facemtl.data.samples import FaceSample, collate_faces
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.target_group_sampler import TargetGroupSampler
from facemtl.data.target_groups import TargetGroupCollator

ADULTS = [15.0, 25.0, 35.0, 45.0, 55.0]


def test_empty_age_groups_are_listed_at_construction() -> None:
    with pytest.raises(
        ValueError, match=r"TargetGroupSampler: every target group .* got none of 10−, 61\+\. Cut other"
    ):
        TargetGroupSampler(ADULTS, global_batch_size=2)
    assert TargetGroupSampler(ADULTS, global_batch_size=2, groups=(1, 5)).num_left_out == 3
    with pytest.raises(ValueError, match="got none of 51–60 male"):
        BalancedSampler([5, 5, 15, 15, 25, 25, 35, 35, 45, 45, 55, 65, 65], [0, 1] * 5 + [0, 0, 1], global_batch_size=2)
    with pytest.raises(ValueError, match="known together for one face at least, got none in 2"):
        BalancedSampler([5.0, float("nan")], [-1, 1], global_batch_size=2, on_empty="leave_out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"global_batch_size": 7, "rank": 0, "world_size": 2},
            "'global_batch_size' must be a multiple of .* 2, .* got 7",
        ),
        ({"global_batch_size": 0}, "'global_batch_size' must be at least 1, got 0"),
        ({"global_batch_size": 4, "rank": 2, "world_size": 2}, r"'rank' must lie in .* got 2 of 2"),
        ({"global_batch_size": 4, "rank": 0}, "'rank' and 'world_size' come together, got rank=0, world_size=None"),
        ({"global_batch_size": 4, "seed": -1}, "'seed' must be at least 0, got -1"),
        ({"global_batch_size": 4, "seed": 2**64}, r"'seed' must be less than 2\*\*64, got 18446744073709551616"),
    ],
)
def test_numbers_out_of_range_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShuffledSampler(10, **arguments)


def test_labels_are_named_with_their_place() -> None:
    with pytest.raises(ValueError, match=r"'ages' must lie in \[0, 100\] years .* got 130 at index 1"):
        TargetGroupSampler([5.0, 130.0], global_batch_size=1)
    with pytest.raises(ValueError, match=r"'genders' must be in \[-1, 1\] .* got 2 at index 0"):
        BalancedSampler([5.0], [2], global_batch_size=1)
    with pytest.raises(ValueError, match="'genders' must have 1 labels as the others do, got 2"):
        BalancedSampler([5.0], [1, 0], global_batch_size=1)
    with pytest.raises(ValueError, match=r"'identities' must have shape \(faces,\) .* got shape \(2, 1\)"):
        IdentitySampler(torch.zeros(2, 1, dtype=torch.int64), identities_per_batch=1, faces_per_identity=1)
    with pytest.raises(TypeError, match="'identities' must be whole numbers, got dtype float64"):
        IdentitySampler([0.0], identities_per_batch=1, faces_per_identity=1)
    with pytest.raises(TypeError, match="'ages' must be numbers, got dtype <U1"):
        TargetGroupSampler(np.array(["5"]), global_batch_size=1)
    with pytest.raises(TypeError, match=r"'num_faces' must be a whole number, got 3\.5"):
        ShuffledSampler(3.5, global_batch_size=1)
    with pytest.raises(ValueError, match=r"'groups' must be different numbers in \[0, 7\), .* got \(7,\)"):
        TargetGroupSampler(ADULTS, global_batch_size=1, groups=(7,))


def test_too_few_people_and_unknown_options() -> None:
    with pytest.raises(ValueError, match="'identities_per_batch' must be at most .* 2, got 3"):
        IdentitySampler([0, 0, 1, -1], identities_per_batch=3, faces_per_identity=2)
    with pytest.raises(ValueError, match="'identities_per_batch' must be at most .* 1, got 2"):
        IdentitySampler([0, 0, 1, -1], identities_per_batch=2, faces_per_identity=2, on_few_faces="leave_out")
    with pytest.raises(ValueError, match="'on_few_faces' must be \"repeat\" or \"leave_out\", got 'drop'"):
        IdentitySampler([0], identities_per_batch=1, faces_per_identity=1, on_few_faces="drop")
    with pytest.raises(ValueError, match="'on_empty' must be \"raise\" or \"leave_out\", got 'skip'"):
        BalancedSampler([5.0], [1], global_batch_size=1, on_empty="skip")


def test_states_of_other_runs_are_refused_with_the_difference() -> None:
    state = ShuffledSampler(10, global_batch_size=4, seed=3).state_dict(7)
    with pytest.raises(ValueError, match=r"seed was 3 and is 4; global_batch_size was 4 and is 5\. Construct"):
        ShuffledSampler(10, global_batch_size=5, seed=4).load_state_dict(state)
    with pytest.raises(ValueError, match="labels_crc32 was"):
        ShuffledSampler(11, global_batch_size=4, seed=3).load_state_dict(state)
    with pytest.raises(ValueError, match="sampler was 'ShuffledSampler' and is 'TargetGroupSampler'"):
        TargetGroupSampler(ADULTS, groups=(1,), global_batch_size=4, seed=3).load_state_dict(state)
    people = IdentitySampler([0, 0, 1, 1], identities_per_batch=2, faces_per_identity=1)
    with pytest.raises(ValueError, match="faces_per_identity was 1 and is 2"):
        IdentitySampler([0, 0, 1, 1], identities_per_batch=1, faces_per_identity=2).load_state_dict(
            people.state_dict(1)
        )
    with pytest.raises(ValueError, match="'step' must be at least 0, got -1"):
        people.start_at(-1)


def test_a_launcher_without_a_process_group_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(ValueError, match="got WORLD_SIZE=8 from the launcher: every process would take the same faces"):
        ShuffledSampler(10, global_batch_size=8)
    assert ShuffledSampler(10, global_batch_size=8, rank=3, world_size=8).rank == 3


def face(age: float, size: int = 8) -> FaceSample:
    return FaceSample(torch.zeros(3, size, size, dtype=torch.uint8), identity=0, age=age, gender=0, index=5)


def test_collation_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="'samples' must hold at least one sample, got none"):
        collate_faces([])
    with pytest.raises(ValueError, match=r"all of one size, got \(3, 8, 8\) of face 5 and \(3, 9, 9\) of face 5"):
        collate_faces([face(1.0), face(1.0, 9)])
    with pytest.raises(ValueError, match="'samples' must be as many targets as sources, got 3 in all"):
        TargetGroupCollator()([face(1.0)] * 3)
    with pytest.raises(ValueError, match=r"'ages' must lie in \[0, 100\] years; got nan at index 0"):
        TargetGroupCollator()([face(1.0), face(float("nan"))])
