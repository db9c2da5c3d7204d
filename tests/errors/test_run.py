"""Runs that cannot be, checkpoints of other runs, and losses that are no numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.finite import TrainingDiverged
from facemtl.training.guard import Guard
from facemtl.training.interruption import StopRequest
from facemtl.training.precision import MOST_SKIPPED, Precision
from facemtl.training.run import build_run, present, resume
from facemtl.training.run_facts import check_run, run_facts
from facemtl.training.settings import ModelSettings, TrainingSettings
from facemtl.training.training_faces import TrainingFaces, open_training_faces
from tests.small_runs import ALONE, SIDE, small_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces() -> TrainingFaces:
    return open_training_faces(held_out_people=4, image_size=SIDE)


def test_every_difference_is_named(faces: TrainingFaces) -> None:
    before = small_settings(Path("runs/old"))
    now = replace(
        before,
        seed=7,
        phases="joint",
        output=Path("runs/new"),  # what may change
        record=replace(before.record, log_every=1),
        faces=replace(before.faces, image_size=64, workers=3),
        model=ModelSettings(
            preset="code2021", depth=34, width=8, embedding_dimension=32, discriminator_preset="paper2021"
        ),
        recognition=replace(before.recognition, global_batch=32, learning_rate=1.0),
        synthesis=replace(before.synthesis, global_batch=16),
    )
    mine = {**run_facts(now, faces), "people": 11, "faces": 12, "labels_crc32": 13}
    with pytest.raises(ValueError, match="check_run") as error:
        check_run(run_facts(before, faces), mine, folder=Path("runs/old/step-3"))
    message = str(error.value)
    assert "the run in 'runs/old/step-3' must be this one" in message
    differences = re.findall(r"([\w.]+) was (\S+) and is ([\w']+)", message)
    assert differences == [
        ("seed", "0", "7"),
        ("phases", "'recognition-then-synthesis'", "'joint'"),
        ("faces.image_size", "32", "64"),
        ("model.preset", "'paper2021'", "'code2021'"),
        ("model.depth", "18", "34"),
        ("model.width", "4", "8"),
        ("model.embedding_dimension", "16", "32"),
        ("model.discriminator_preset", "None", "'paper2021'"),
        ("recognition.global_batch", "8", "32"),
        ("synthesis.global_batch", "8", "16"),
        ("people", "252", "11"),
        ("faces", str(len(faces.training)), "12"),
        ("labels_crc32", str(faces.fingerprint), "13"),
    ]


def test_a_checkpoint_that_says_nothing_of_its_run(faces: TrainingFaces) -> None:
    with pytest.raises(ValueError, match=r"seed was None and is 0; .*people was None and is 252"):
        check_run({}, run_facts(small_settings(Path("run")), faces), folder=Path("run"))


def test_there_must_be_a_checkpoint(tmp_path: Path) -> None:
    run = build_run(small_settings(tmp_path / "run", resume="must"), ALONE, StopRequest())
    message = f"resume: there must be a checkpoint in {str(tmp_path / 'run')!r} to go on from, got none."
    with pytest.raises(ValueError, match=re.escape(message)):
        resume(run, CheckpointFolder(tmp_path / "run" / "checkpoints"))


def test_synthesis_before_recognition(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="build_run: synthesis alone must start from a trained recogniser"):
        build_run(small_settings(tmp_path, phases="synthesis"), ALONE, StopRequest())


@pytest.mark.parametrize("held_out", [255, -1])
def test_too_many_people_held_out(tmp_path: Path, held_out: int) -> None:
    settings: TrainingSettings = small_settings(tmp_path)
    settings = replace(settings, faces=replace(settings.faces, held_out_people=held_out))
    with pytest.raises(ValueError, match=rf"'held_out_people' must lie in \[0, 254\].* got {held_out}"):
        build_run(settings, ALONE, StopRequest())


def test_a_part_that_is_missing() -> None:
    with pytest.raises(ValueError, match="present: the model must have all parts"):
        present(None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_with_the_faces(value: float) -> None:
    guard = Guard(ALONE, StopRequest(), lambda face: f"face-{face}.jpg")
    terms = {"recognition/total": torch.tensor(1.0), "recognition/age": torch.tensor(value, requires_grad=True)}
    with pytest.raises(TrainingDiverged) as error:
        guard.check(terms, step=12, phase="recognition", faces=torch.tensor([4, 2]))
    message = str(error.value)
    assert message.startswith(f"Step 12 (recognition): loss term 'recognition/age' must be finite, got {value}.")
    assert "face-4.jpg, face-2.jpg" in message


def test_a_float16_overflow_of_the_loss_itself_is_told(tmp_path: Path) -> None:
    """The scaler forgives gradients, not losses."""
    guard = Guard(ALONE, StopRequest(), str)
    with pytest.raises(TrainingDiverged, match="'total' must be finite, got inf"):
        guard.check({"total": torch.tensor(1e6).half()}, step=1, phase="joint", faces=torch.tensor([0]))


def test_another_precision() -> None:
    message = "Precision: 'name' must be one of auto, float32, bfloat16, float16, got 'fp8'."
    with pytest.raises(ValueError, match=re.escape(message)):
        Precision("fp8", CPU)  # type: ignore[arg-type]


def test_overflows_in_a_row_end_a_run() -> None:
    precision, weight = Precision("float16", CPU), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def update(factor: float) -> None:
        optimizer.zero_grad()
        precision.backward((weight * factor).sum())
        precision.step(optimizer)

    for _ in range(MOST_SKIPPED - 1):
        update(float("inf"))
    update(0.0)  # not in a row
    for _ in range(MOST_SKIPPED - 1):
        update(float("inf"))
    assert precision.skipped == 2 * MOST_SKIPPED - 2
    assert weight.tolist() == [1.0, 1.0]
    with pytest.raises(TrainingDiverged, match=f"got an overflow in {MOST_SKIPPED} updates in a row.*Use bfloat16"):
        update(float("inf"))
