"""A whole small run: put together, asked about, written down and gone on with."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facemtl import ShuffledSampler, collate_faces
from facemtl.data.bundled import bundled_faces
from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.finite import TrainingDiverged
from facemtl.training.frozen import recognition_part
from facemtl.training.guard import Guard
from facemtl.training.interruption import StopRequest
from facemtl.training.loader import training_batches
from facemtl.training.metrics_file import read_metrics
from facemtl.training.metrics_log import MetricsLog
from facemtl.training.outcome import draw_grid
from facemtl.training.processes import Processes
from facemtl.training.recorder import METRICS, Recorder
from facemtl.training.run import Position, Run, build_optimizers, build_run, resume
from facemtl.training.settings import TrainingSettings
from tests.gloo import run_gloo
from tests.small_runs import ALONE, small_settings


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    return small_settings(tmp_path / "run")


def small_run(settings: TrainingSettings) -> Run:
    return build_run(settings, ALONE, StopRequest())


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.state.tensors().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def update(run: Run) -> None:
    """Give every parameter a gradient and every optimizer a state."""
    for optimizer in run.optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, 0.01)
        optimizer.step()


def test_a_run_follows_from_its_seed(settings: TrainingSettings) -> None:
    first = small_run(settings)
    assert same(weights(first), weights(small_run(settings)))
    other = small_run(replace(settings, seed=1))
    for module, another in ((first.model.encoder, other.model.encoder), (first.head, other.head)):
        assert not torch.equal(next(module.parameters()), next(another.parameters()))
    assert first.faces.training.num_identities == first.head.num_identities == 252
    assert first.precision.name == "float32"


def test_optimizers_take_each_parameter_once(settings: TrainingSettings) -> None:
    run = small_run(settings)
    optimizers = build_optimizers(settings, run.model, run.head)
    taken = {
        name: [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for name, optimizer in optimizers.items()
    }
    assert run.model.generator is not None
    assert run.model.discriminator is not None
    parts = {
        "recognition": recognition_part(run.model),
        "head": run.head,
        "discriminator": run.model.discriminator,
        "generator": run.model.generator,
    }
    for name, part in parts.items():
        assert {id(parameter) for parameter in taken[name]} == {id(parameter) for parameter in part.parameters()}
    together = [id(parameter) for parameters in taken.values() for parameter in parameters]
    assert len(together) == len(set(together))
    assert set(together) == {id(parameter) for part in (run.model, run.head) for parameter in part.parameters()}
    for name in ("recognition", "head"):
        assert isinstance(optimizers[name], torch.optim.SGD)
        assert {group["momentum"] for group in optimizers[name].param_groups} == {0.9}
    assert [group["weight_decay"] for group in optimizers["recognition"].param_groups] == [5e-4, 0.0]
    assert [group["weight_decay"] for group in optimizers["head"].param_groups] == [5e-4]
    for name, rate in (("discriminator", 2e-4), ("generator", 1e-4)):
        assert isinstance(optimizers[name], torch.optim.Adam)
        assert [(group["lr"], group["betas"]) for group in optimizers[name].param_groups] == [(rate, (0.9, 0.99))]


def test_a_run_starts_from_a_saved_model(settings: TrainingSettings, tmp_path: Path) -> None:
    first = small_run(settings)
    update(first)
    first.model.save_pretrained(tmp_path / "model")
    second = small_run(replace(settings, phases="synthesis", start_from=tmp_path / "model", seed=3))
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert same({**ours}, {**theirs})


def test_channels_last_reaches_images_and_weights(settings: TrainingSettings) -> None:
    wide = replace(settings.model, width=12)
    run = small_run(replace(settings, model=wide, compute=replace(settings.compute, channels_last=True)))
    batch = collate_faces(run.faces.training.__getitems__([0, 1]))
    assert run.pixels(batch, 1, purpose=1).is_contiguous(memory_format=torch.channels_last)
    convolution = next(part for part in run.model.encoder.modules() if isinstance(part, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_is_gone_on_with(settings: TrainingSettings) -> None:
    run, folder = small_run(settings), CheckpointFolder(settings.output / "checkpoints")
    assert resume(run, folder) == Position()
    update(run)
    run.precision.skipped = 5
    sampler = ShuffledSampler(len(run.faces.training), global_batch_size=64)
    Recorder(run, None, None, folder).checkpoint(Position(phase=1, number=3, step=11), sampler)
    checkpoint = folder.newest()
    assert checkpoint is not None
    assert checkpoint.facts["sampler"]["step"] == 3
    for choice in ("auto", "must"):
        other = small_run(replace(settings, resume=choice))  # type: ignore[arg-type]
        assert resume(other, folder) == Position(phase=1, number=3, step=11)
        assert same(weights(other), weights(run))
        assert other.precision.skipped == 5
    changed = replace(settings.recognition, global_batch=32)
    other = small_run(replace(settings, recognition=changed))
    before = weights(other)
    with pytest.raises(ValueError, match=r"check_run: .* recognition.global_batch was 8 and is 32"):
        resume(other, folder)
    assert same(weights(other), before)
    fresh = small_run(replace(settings, resume="never"))
    before = weights(fresh)
    assert resume(fresh, folder) == Position()
    assert same(weights(fresh), before)
    assert folder.newest() is None, "or its higher step would be gone on with one day"
    (aside,) = settings.output.glob("checkpoints-before-*")
    kept = CheckpointFolder(aside).newest()
    assert kept is not None
    assert kept.step == 11


def test_batches_begin_where_the_run_stands() -> None:
    faces = bundled_faces()
    for workers in (0, 1):
        sampler = ShuffledSampler(len(faces), global_batch_size=4, seed=2)
        batches = training_batches(faces, sampler, collate_faces, first_step=7, device=ALONE.device, workers=workers)
        for step in (7, 8, 9):
            assert next(batches).indices.tolist() == sampler.batch(step)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_the_recorder_writes_means_and_leaves_pictures_out_of_the_speed(
    settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, run = Clock(), small_run(replace(settings, record=replace(settings.record, log_every=2)))
    monkeypatch.setattr("facemtl.training.recorder.time", clock)

    def slow(*arguments: Any) -> None:
        clock.now += 60.0
        draw_grid(*arguments)

    monkeypatch.setattr("facemtl.training.recorder.draw_grid", slow)
    with MetricsLog(settings.output, METRICS, tensorboard=False) as log:
        recorder = Recorder(run, log, None, CheckpointFolder(settings.output / "checkpoints"))
        values = {"recognition/total": 3.0, "recognition/learning_rate": 0.1}
        recorder.note(values, faces=64, step=1)
        clock.now += 4.0
        recorder.note({**values, "recognition/total": 4.0}, faces=64, step=2)
        clock.now += 1.0
        recorder.picture(3)
        clock.now += 1.0
        recorder.note({**values, "recognition/total": 9.0}, faces=64, step=3, flush=True)
    table = read_metrics(settings.output / "metrics.csv")
    assert table["recognition/total"].steps.tolist() == [2, 3]
    assert table["recognition/total"].values.tolist() == [3.5, 9.0]
    assert table["recognition/learning_rate"].values.tolist() == [0.1, 0.1], "to the last digit"
    assert table["images_per_second"].values.tolist() == [32.0, 32.0]
    assert (settings.output / "grids" / "step-00000003.png").read_bytes()[1:4] == b"PNG"


def ask_all(rank: int, world_size: int, output: Path) -> dict[str, Any]:
    """One process has a bad loss, the other was asked to stop."""
    processes = Processes(rank, rank, world_size, torch.device("cpu"))
    stop = StopRequest()
    guard = Guard(processes, stop, lambda face: f"face-{face}.jpg")
    good = {"total": torch.tensor(1.5 + rank, dtype=torch.bfloat16, requires_grad=True), "age": torch.tensor(2.0)}
    faces = torch.tensor([10 * rank, 10 * rank + 1])
    values = guard.check(good, step=1, phase="recognition", faces=faces)
    before = guard.stopping
    if rank == 0:
        stop.name = "SIGTERM"
    guard.check(good, step=2, phase="recognition", faces=faces)
    bad = {**good, "age": torch.tensor(math.nan if rank else 2.0)}
    said = "nothing"
    try:
        guard.check(bad, step=3, phase="recognition", faces=faces)
    except TrainingDiverged as error:
        said = str(error)
    settings = small_settings(output)
    run = build_run(replace(settings, record=replace(settings.record, log_every=1)), processes, stop)
    rows = Rows()
    Recorder(run, rows, None, CheckpointFolder(output)).note(values, faces=8, step=1)  # type: ignore[arg-type]
    first = next(run.model.parameters()).detach().clone()
    return {"values": values, "before": before, "stopping": guard.stopping, "said": said, "rows": rows.seen, "w": first}


class Rows:
    """Keeps what a log is given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self.seen.append({**metrics, "step": step})


@pytest.mark.dist
def test_processes_agree_on_faults_stops_means_and_weights(tmp_path: Path, settings: TrainingSettings) -> None:
    good, bad = run_gloo(ask_all, 2, tmp_path / "run", folder=tmp_path)
    for rank, result in enumerate((good, bad)):
        assert result["values"] == {"total": 1.5 + rank, "age": 2.0}
        assert (result["before"], result["stopping"]) == (False, True)
        (row,) = result["rows"]
        assert (row["total"], row["age"], row["step"]) == (2.0, 2.0, 1)
    assert "loss term 'age' must be finite, got nan" in bad["said"]
    assert "Step 3 (recognition)" in bad["said"]
    assert "face-10.jpg, face-11.jpg" in bad["said"]
    assert good["said"] == (
        "Step 3 (recognition): the losses of another process are not finite; its message says which."
    )
    assert torch.equal(good["w"], bad["w"])
    assert torch.equal(good["w"], next(small_run(settings).model.parameters())), "and what one process has"
