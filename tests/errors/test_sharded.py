from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from facemtl._core.checks import ShapeError, value_checks
from facemtl.heads.sharded import ShardedArcFace, ShardedCosFace
from tests.gloo import run_gloo


@pytest.mark.parametrize("kind", [ShardedCosFace, ShardedArcFace])
def test_options(kind: type) -> None:
    name = kind.__name__
    for fraction in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"{name}: 'sample_fraction' must lie in \(0, 1\], got {fraction}"):
            kind(4, 10, sample_fraction=fraction)
    with pytest.raises(ValueError, match=rf"{name}: 'num_identities' must be at least 2, got 1"):
        kind(4, 1)
    with pytest.raises(ValueError, match=rf"{name}: 'dimension' must be at least 1, got 0"):
        kind(0, 10)
    with pytest.raises(ValueError, match=rf"{name}: 'scale' must be positive and finite, got 0"):
        kind(4, 10, scale=0)
    with pytest.raises(ValueError, match=rf"{name}: 'margin' must lie in \[0, .*\], got -1"):
        kind(4, 10, margin=-1)


def test_past_pi() -> None:
    with pytest.raises(ValueError, match="ShardedArcFace: 'past_pi' must be 'linear', 'fold' or 'wrap', got 'flat'"):
        ShardedArcFace(4, 10, past_pi="flat")


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_inputs_in_one_process(fraction: float) -> None:
    head = ShardedCosFace(4, 10, sample_fraction=fraction)
    message = r"ShardedCosFace.forward: 'labels' must lie in \[0, num_identities\) = \[0, 10\); got 10 at index 1"
    with pytest.raises(ValueError, match=message):
        head(torch.randn(2, 4), torch.tensor([0, 10]))
    with pytest.raises(ShapeError, match=r"'embeddings' must have dimension = 4 on axis 1, got shape \(2, 5\)"):
        head(torch.randn(2, 5), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"'embeddings' must be finite; got nan at index \(1, 2\)"):
        head(torch.tensor([[0.0] * 4, [0.0, 0.0, float("nan"), 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'max'"):
        head(torch.randn(2, 4), torch.tensor([0, 1]), reduction="max")


def test_a_head_made_before_the_process_group() -> None:
    head = ShardedCosFace(4, 10)
    with mock.patch.multiple(dist, is_initialized=lambda: True, get_world_size=lambda: 3):
        message = "must be made after the process group, got one with all 10 identities on each of 3 processes"
        with pytest.raises(ValueError, match=message):
            head(torch.randn(2, 4), torch.tensor([0, 1]))


def message_of(call: Callable[[], object]) -> str:
    """What a call raises; its type begins the text."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def faults_of_one_process(rank: int, world_size: int) -> list[str]:
    """Each fault is the last process's alone."""
    last = rank == world_size - 1
    head = ShardedCosFace(4, 10)
    good, labels = torch.ones(3, 4), torch.tensor([0, 1, 2])
    messages = []
    for value in (10, -1):
        messages.append(message_of(lambda v=value: head(good, torch.tensor([0, v, 2]) if last else labels)))
    nan = torch.full((3, 4), float("nan")) if last else good
    messages.append(message_of(lambda: head(nan, labels)))
    messages.append(message_of(lambda: head(good[:2], labels[:2]) if last else head(good, labels)))
    # What is not a matter of values is said at once, by the process that has it; here all have it.
    messages.append(message_of(lambda: head(good, labels.unsqueeze(1))))
    messages.append(message_of(lambda: head(good, labels.float())))
    messages.append(message_of(lambda: head(good.long(), labels)))
    messages.append(message_of(lambda: head(torch.ones(3, 5), labels)))
    messages.append(message_of(lambda: ShardedCosFace(4, 10, device="meta")))
    with value_checks("never"):  # trusts the caller: no error, and no hang
        messages.append(message_of(lambda: head(good, torch.tensor([0, 10, 2]) if last else labels)))
    messages.append(message_of(lambda: head(good, labels)))  # and all is well afterwards
    first_alone = dist.new_group([0])
    messages.append(message_of(lambda: ShardedCosFace(4, 10, group=first_alone)))
    messages.append(message_of(lambda: ShardedArcFace(4, 10, device="meta")))
    return messages


@pytest.mark.dist
def test_what_one_process_does_wrong_all_processes_say(tmp_path: Path) -> None:
    first, *others = run_gloo(faults_of_one_process, 3, folder=tmp_path)
    where = "ShardedCosFace.forward"
    belong = f"ValueError: {where}: 'labels' must belong to one process each, in [0, num_identities) = [0, 10)"
    tail = "The index counts through the batches of all processes."
    for messages in (first, *others):
        assert messages[0] == f"{belong}; got 10 at index 7. {tail}"
        assert messages[1] == f"{belong}; got -1 at index 7. {tail}"
        assert messages[2] == f"ValueError: {where}: 'embeddings' must be finite; got nan at index (6, 0)."
        assert messages[4] == (
            f"ShapeError: {where}: 'labels' must have shape (batch,), got (3, 1). Call labels.squeeze(1)."
        )
        assert messages[5] == (
            f"TypeError: {where}: 'labels' must have dtype int64 or int32, got torch.float32. Call labels.long()."
        )
        assert messages[6] == f"TypeError: {where}: 'embeddings' must have a floating-point dtype, got torch.int64."
        assert "'embeddings' must have dimension = 4 on axis 1, got shape (3, 5)" in messages[7]
        assert "'device' must be real while identities are split over processes, got meta" in messages[8]
        assert messages[9:11] == ["nothing", "nothing"]
        assert messages[12].startswith("ValueError: ShardedArcFace: 'device' must be real")
    same = f"ValueError: {where}: 'embeddings' must have the same batch on all processes"
    advice = "The index is the process's rank. Drop the last, smaller batch."
    assert first[3] == f"{same}, here 3; got 2 at index 2. {advice}"
    assert others[-1][3] == f"{same}, here 2; got 3 at index 0. {advice}"
    assert first[11] == "nothing"
    assert "'group' must hold this process, got a group without rank 1" in others[0][11]
