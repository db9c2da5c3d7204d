from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from facemtl import MTLFace
from tests.example_runs import TINY, example, gloo_worker, largest_difference, metrics, run, start, wait_for_step
from tests.gloo import run_gloo

pytestmark = pytest.mark.slow
ALIKE = ("--compute.norms-in-eval", "--synthesis.generator-delay", "0", "--synthesis.learning-rate", "1e-5")
"""Adam's first steps are as long for a gradient of rounding errors as for any other: a small rate keeps them small."""


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert run(output) == 0
    return output


def test_run_leaves_what_one_can_look_at(tmp_path: Path) -> None:
    assert (
        run(
            tmp_path,
            "--faces.held-out-people",
            "16",
            "--record.grid-every",
            "2",
            "--record.tensorboard",
            "--record.onnx",
        )
        == 0
    )
    for name in ("metrics.csv", "report.html", "grid.png", "grids/step-00000007.png", "model/recogniser.onnx"):
        assert (tmp_path / name).stat().st_size > 100, name
    assert list((tmp_path / "tensorboard").iterdir())
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 3
    assert sorted(metrics(tmp_path)) == list(range(1, 11))
    assert len(json.loads((tmp_path / "model" / "identities.json").read_text())) == 240
    model = MTLFace.from_pretrained(tmp_path / "model")
    assert model.age_to(torch.zeros(1, 3, 32, 32), 3).shape == (1, 3, 32, 32)
    page = (tmp_path / "report.html").read_text()
    for word in ("ge accuracy", "dentity", "recognition.learning_rate", "data:image/png;base64"):
        assert word in page, word


def test_same_seed_repeats_the_trajectory(whole_run: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again") == 0
    assert metrics(tmp_path / "again") == metrics(whole_run)
    assert run(tmp_path / "other", "--seed", "1") == 0
    assert metrics(tmp_path / "other") != metrics(whole_run)


@pytest.mark.dist
@pytest.mark.parametrize("step", [3, 5, 8])
def test_killed_run_goes_on_bit_for_bit(whole_run: Path, tmp_path: Path, step: int) -> None:
    killed = start(tmp_path)
    wait_for_step(killed, tmp_path, step)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(metrics(tmp_path)) < 10
    assert run(tmp_path) == 0
    assert metrics(tmp_path) == metrics(whole_run)
    ours, theirs = (MTLFace.from_pretrained(folder / "model").state_dict() for folder in (tmp_path, whole_run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.dist
def test_asked_to_stop_it_writes_a_checkpoint_and_goes_on_later(whole_run: Path, tmp_path: Path) -> None:
    stopped = start(tmp_path)
    wait_for_step(stopped, tmp_path, 3)
    stopped.send_signal(signal.SIGTERM)
    text, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + signal.SIGTERM, text
    last = max(metrics(tmp_path))
    assert (tmp_path / "checkpoints" / f"step-{last:08d}").is_dir()
    assert f"Stopped after step {last}" in text
    assert "Traceback" not in text
    assert run(tmp_path, "--resume", "must") == 0
    assert metrics(tmp_path) == metrics(whole_run)


@pytest.mark.dist
def test_two_processes_equal_one(tmp_path: Path) -> None:
    assert run(tmp_path / "one", *ALIKE) == 0
    assert run_gloo(gloo_worker, 2, str(tmp_path / "two"), ALIKE, folder=tmp_path, timeout_s=240) == [0, 0]
    difference, where = largest_difference(metrics(tmp_path / "one"), metrics(tmp_path / "two"))
    assert difference < 1e-5, where


@pytest.mark.dist
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_other_number_of_processes_goes_on_with_the_same_batches(tmp_path: Path, before: int, after: int) -> None:
    assert run(tmp_path / "whole", *ALIKE) == 0

    def part(world_size: int, *options: str) -> list[int]:
        if world_size == 1:
            return [run(tmp_path / "run", *ALIKE, *options)]
        arguments = (str(tmp_path / "run"), (*ALIKE, *options))
        codes: list[int] = run_gloo(gloo_worker, world_size, *arguments, folder=tmp_path, timeout_s=240)
        return codes

    assert part(before, "--phases", "recognition-then-synthesis", "--synthesis.steps", "2") == [0] * before
    assert part(after, "--resume", "must") == [0] * after
    difference, where = largest_difference(metrics(tmp_path / "whole"), metrics(tmp_path / "run"))
    assert difference < 1e-5, where


@pytest.mark.dist
def test_eight_processes_run_the_papers_preset(tmp_path: Path) -> None:
    options = ("--preset", "lcaf", "--synthesis.steps", "2", "--recognition.steps", "2", "--faces.held-out-people", "0")
    small = (str(tmp_path / "run"), (*options, "--recognition.warmup", "1", "--recognition.milestones", "2", "3"))
    assert run_gloo(gloo_worker, 8, *small, folder=tmp_path, timeout_s=280) == [0] * 8
    first = metrics(tmp_path / "run")
    assert sorted(first) == [1, 2, 3, 4]
    longer = (small[0], (*small[1], "--synthesis.steps", "3", "--resume", "must"))
    assert run_gloo(gloo_worker, 8, *longer, folder=tmp_path, timeout_s=280) == [0] * 8
    assert sorted(metrics(tmp_path / "run")) == [1, 2, 3, 4, 5]
    assert {step: row for step, row in metrics(tmp_path / "run").items() if step < 5} == first


@pytest.mark.parametrize("phases", ["recognition", "joint"])
def test_other_orders_of_learning(tmp_path: Path, phases: str) -> None:
    assert run(tmp_path, "--phases", phases) == 0
    names = {name.split("/")[0] for row in metrics(tmp_path).values() for name in row}
    assert names == ({"recognition"} if phases == "recognition" else {"recognition", "synthesis"})


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_the_same(whole_run: Path, tmp_path: Path, precision: str) -> None:
    assert run(tmp_path, "--compute.precision", precision) == 0
    ours, exact = metrics(tmp_path), metrics(whole_run)
    assert ours != exact
    assert abs(ours[1]["recognition/total"] / exact[1]["recognition/total"] - 1.0) < 0.02
    assert abs(ours[6]["synthesis/total"] / exact[6]["synthesis/total"] - 1.0) < 0.05


def test_synthesis_alone_starts_from_a_trained_recogniser(whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synthesis alone must start from a trained recogniser"):
        run(tmp_path, "--phases", "synthesis")
    with pytest.raises(ValueError, match=r"model\.width must be that of the model to start from, 4, got 8"):
        run(tmp_path, "--phases", "synthesis", "--start-from", str(whole_run / "model"), "--model.width", "8")
    before = MTLFace.from_pretrained(whole_run / "model").state_dict()
    assert run(tmp_path, "--phases", "synthesis", "--start-from", str(whole_run / "model")) == 0
    after = MTLFace.from_pretrained(tmp_path / "model").state_dict()
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"generator", "discriminator"}


def test_accumulation_is_the_same_update(tmp_path: Path) -> None:
    for name, largest in (("whole", "64"), ("parts", "4")):
        assert run(tmp_path / name, *ALIKE, "--compute.largest-pass", largest) == 0
    difference, where = largest_difference(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"))
    assert difference < 1e-5, where


def test_losses_that_are_not_finite_stop_the_run_before_they_spoil_it(tmp_path: Path) -> None:
    module = example()
    with pytest.raises(module.TrainingDiverged, match=r"(?s)recognition.*\.jpg"):
        run(tmp_path, "--recognition.learning-rate", "1e30", "--recognition.warmup", "1")
    newest = module.CheckpointFolder(tmp_path / "checkpoints").newest()
    assert newest is not None
    assert newest.step == max(metrics(tmp_path))


def test_narrow_models_in_channels_last_are_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a model of width 12 or more, got 4"):
        run(tmp_path, "--compute.channels-last")


def test_stored_encodings_change_nothing_but_rounding(tmp_path: Path) -> None:
    for name, memory in (("stored", "1"), ("anew", "0"), ("too-small", "0.0001")):
        assert run(tmp_path / name, *ALIKE, "--compute.store-encodings", memory) == 0
    difference, where = largest_difference(metrics(tmp_path / "stored"), metrics(tmp_path / "anew"))
    assert difference < 1e-5, where
    assert metrics(tmp_path / "too-small") == metrics(tmp_path / "anew")


def test_beginning_anew_moves_old_checkpoints_away(whole_run: Path, tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    short = ("--resume", "never", "--phases", "recognition", "--recognition.steps", "2", "--seed", "3")
    assert run(tmp_path, *short) == 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert len(list(tmp_path.glob("checkpoints-before-*/step-*"))) == 3


def test_checkpoint_of_another_run_is_refused_with_the_differences(tmp_path: Path) -> None:
    assert run(tmp_path, "--phases", "recognition", "--recognition.steps", "2") == 0
    with pytest.raises(ValueError, match=r"seed was 0 and is 1.*model\.width was 4 and is 8|model\.width.*seed"):
        run(tmp_path, "--phases", "recognition", "--seed", "1", "--model.width", "8")


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    text = capsys.readouterr().out
    for word in ("encoder", "images/s", "Peak memory"):
        assert word in text


def test_typing_errors_get_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example().read_settings(["--recognition.learning-rat", "0.1"])
    assert "--recognition.learning-rate" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        example().read_settings(["--preset", "lcav"])
    assert "lcaf" in capsys.readouterr().err


def test_every_number_of_a_preset_can_be_changed() -> None:
    settings = example().read_settings([*TINY, "--preset", "scaf", "--synthesis.betas", "0.5", "0.99"])
    assert settings.synthesis.betas == (0.5, 0.99)
    assert settings.recognition.momentum == 0.9
    assert settings.model.width == 4
