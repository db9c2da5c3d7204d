"""What is said of launchers, devices and shares that do not fit."""

from __future__ import annotations

import pytest
import torch

from facemtl.training.processes import Processes, launch

THREE = Processes(1, 1, 3, torch.device("cpu"))


def launched(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize("size", [512, 2, 0, 1])
def test_a_batch_that_does_not_divide(size: int) -> None:
    with pytest.raises(
        ValueError, match=f"'recognition.global_batch' must be a multiple of the number of processes, 3, got {size}"
    ):
        THREE.share_of(size, "recognition.global_batch")
    assert THREE.share_of(510, "recognition.global_batch") == 170


def test_a_mean_of_counts() -> None:
    with pytest.raises(TypeError, match=r"Processes\.mean: 'values' must be floating point, got torch\.int64"):
        THREE.mean(torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "'RANK' must be a whole number beside RANK, LOCAL_RANK, WORLD_SIZE, got None"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "'LOCAL_RANK' must be a whole number .* got None"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "two"}, "'WORLD_SIZE' must be a whole number .* got 'two'"),
        ({"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "'RANK' must be less than WORLD_SIZE=2, got 2"),
    ],
)
def test_half_an_environment(environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, **environment)
    with pytest.raises(ValueError, match=message), launch("cpu"):
        pytest.fail("it must not begin")


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_more_processes_than_gpus(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="8", LOCAL_WORLD_SIZE="8")
    gpus(monkeypatch, 2)
    with (
        pytest.raises(ValueError, match="each of 8 processes on this machine a GPU of its own, got 2 visible"),
        launch(device),
    ):
        pytest.fail("it must not begin")


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, RANK="1", LOCAL_RANK="1", WORLD_SIZE="2")
    gpus(monkeypatch, 0)
    with pytest.raises(ValueError, match="each of 2 processes .* got 0 visible"), launch("cuda"):
        pytest.fail("it must not begin")


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_devices_that_processes_cannot_share(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(monkeypatch, RANK="0", LOCAL_RANK="0", WORLD_SIZE="2")
    with pytest.raises(ValueError, match=f"'auto', 'cuda' or 'cpu' with 2 processes, got '{device}'"), launch(device):
        pytest.fail("it must not begin")


def test_an_exception_passes_through_one_process() -> None:
    with pytest.raises(ZeroDivisionError), launch("cpu"):
        raise ZeroDivisionError
