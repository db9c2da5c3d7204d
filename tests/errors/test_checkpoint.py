from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facemtl.training import checkpoint, checkpoint_files, checkpoint_tensors
from facemtl.training.checkpoint import CheckpointError, CheckpointFolder, CheckpointWarning
from facemtl.training.state import TrainingState
from tests.gloo import run_gloo


def state_of(value: float, width: int = 3) -> TrainingState:
    net = nn.Linear(width, 2)
    nn.init.constant_(net.weight, value)
    return TrainingState(modules={"net": net})


def value_in(folder: Path, width: int = 3) -> float:
    """What the newest checkpoint restores, and that it is all of one piece."""
    found = CheckpointFolder(folder).newest()
    assert found is not None
    state = state_of(-1.0, width)
    found.restore(state)
    (value,) = set(state.modules["net"].weight.flatten().tolist())
    assert found.facts == {"value": value}
    return value


@pytest.fixture
def two(tmp_path: Path) -> CheckpointFolder:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        folder.save(step, state_of(step), {"value": step})
    return folder


# --- what a caller got wrong -------------------------------------------------------------------------------------


def test_arguments_are_named_with_their_value(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CheckpointFolder: 'keep' must be at least 1, got 0"):
        CheckpointFolder(tmp_path, keep=0)
    folder = CheckpointFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="'step' must be at least 0, got -3"):
        folder.save(-3, state_of(0), {})
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"a": {"b": [1, torch.ones(1)]}}, r"'facts\.a\.b\[1\]' must be what JSON can hold, got Tensor"),
        ({"rng": np.float64}, r"'facts\.rng' must be what JSON can hold, got type"),
        ({"ages": {7: "child"}}, r"keys in 'facts\.ages' must be texts, got 7"),
        ({"set": {1}}, r"'facts\.set' must be what JSON can hold, got set"),
    ],
)
def test_facts_that_json_cannot_hold(facts: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        CheckpointFolder(tmp_path / "run").save(1, state_of(0), facts)
    assert not (tmp_path / "run").exists()


def test_states_that_cannot_be() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"names in 'modules' must be words, not 'optimizer', got 'a\.b'"):
        TrainingState(modules={"a.b": net})
    with pytest.raises(ValueError, match="got 'optimizer'"):
        TrainingState(modules={"optimizer": net})
    with pytest.raises(TypeError, match="'modules' must hold values of type Module, got Parameter for 'net'"):
        TrainingState(modules={"net": net.weight})
    with pytest.raises(TypeError, match="'optimizers' must hold values of type Optimizer, got Linear for 'sgd'"):
        TrainingState(modules={"net": net}, optimizers={"sgd": net})
    with pytest.raises(ValueError, match=r"got one of shape \(5, 2\) in group 0 of 'sgd' that is in none"):
        TrainingState(modules={"net": net}, optimizers={"sgd": torch.optim.SGD(nn.Linear(2, 5).parameters())})
    with pytest.raises(ValueError, match=r"'net\.weight' must have values, got a tensor without memory"):
        TrainingState(modules={"net": nn.LazyLinear(3)})
    with pytest.raises(ValueError, match=r"'net\.weight' must have values"):
        TrainingState(modules={"net": nn.Linear(2, 2, device="meta")})
    norm = nn.BatchNorm1d(4)
    norm.running_var = torch.ones(1).expand(4)
    with pytest.raises(ValueError, match=r"'net\.running_var' must have memory for each element, got strides \(0,\)"):
        TrainingState(modules={"net": norm})

    class Talkative(nn.Linear):
        def get_extra_state(self) -> str:
            return "more"

    with pytest.raises(ValueError, match=r"got extra state in 'net\.0'"):
        TrainingState(modules={"net": nn.Sequential(Talkative(1, 1))})


def test_optimizer_state_that_is_no_tensor() -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = TrainingState(modules={"net": net}, optimizers={"sgd": optimizer})
    optimizer.state[net.bias] = {"count": 4}
    with pytest.raises(TypeError, match=r"'optimizer\.sgd\.net\.bias\.count' must be a tensor, got int"):
        state.tensors()


# --- a checkpoint of another model -------------------------------------------------------------------------------


def test_a_checkpoint_of_another_model_is_refused_with_what_differs(tmp_path: Path) -> None:
    def build(width: int, layers: int, dtype: torch.dtype = torch.float32) -> TrainingState:
        net = nn.ModuleDict({f"layer{index}": nn.Linear(width, 2, dtype=dtype) for index in range(layers)})
        sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        sum(parameter.sum() for parameter in net.parameters()).backward()
        sgd.step()
        return TrainingState(modules={"net": nn.DataParallel(net)}, optimizers={"sgd": sgd})

    CheckpointFolder(tmp_path).save(1, build(3, 2), {})
    found = CheckpointFolder(tmp_path).newest()
    assert found is not None

    def refusal(state: TrainingState) -> str:
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        with pytest.raises(CheckpointError) as caught:
            found.restore(state)
        after = state.tensors()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        return str(caught.value)

    wide = refusal(build(4, 2))
    assert str(found.path) in wide
    assert "of another shape or dtype: net.layer0.weight is (2, 3) float32 there, (2, 4) float32 here" in wide
    assert "missing" not in wide
    assert "unexpected" not in wide
    assert "net.layer0.bias is (2,) float32 there, (2,) float64 here" in refusal(build(3, 2, torch.float64))
    assert "got missing from it: net.layer2.bias, net.layer2.weight. Build" in refusal(build(3, 3))
    few = refusal(build(3, 1))
    assert "got unexpected in it: net.layer1.bias, net.layer1.weight, optimizer.sgd.net.layer1.bias.mom" in few
    assert "and 4 more" in refusal(TrainingState(modules={"net": nn.ModuleDict()}))
    assert "and 6 more" in refusal(build(3, 7))


# --- damage ------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    path.write_bytes(b'{"\xff' + path.read_bytes()[3:])


def forget_a_file(path: Path) -> None:
    sums = json.loads(path.read_bytes())
    del sums["__0_0.distcp"]
    path.write_text(json.dumps(sums))


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("__0_0.distcp", flip, "__0_0.distcp is not what was written"),
    ("__0_0.distcp", cut, r"__0_0.distcp has [\d,]+ bytes instead of"),
    ("__0_0.distcp", Path.unlink, "__0_0.distcp cannot be read: No such file"),
    (".metadata", flip, ".metadata is not what was written"),
    (".metadata", Path.unlink, ".metadata cannot be read"),
    ("facts.json", garble, "facts.json is not what was written"),
    ("facts.json", cut, "facts.json has"),
    ("sums.json", garble, "sums.json is garbled"),
    ("sums.json", lambda path: path.write_text("[1]"), "sums.json is garbled"),
    ("sums.json", lambda path: path.write_text('{"a": 1}'), "sums.json is garbled"),
    ("sums.json", lambda path: path.write_text("{}"), "sums.json is garbled"),
    ("sums.json", lambda path: path.write_text("[" * 10**6), "sums.json is garbled"),
    ("sums.json", cut, "sums.json is garbled"),
    ("sums.json", Path.unlink, "sums.json cannot be read: No such file"),
    ("sums.json", forget_a_file, "__0_0.distcp has no checksum"),
]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGE)
def test_a_damaged_one_is_passed_over(
    name: str, damage: Callable[[Path], None], reason: str, two: CheckpointFolder
) -> None:
    damage(two.path / "step-00000002" / name)
    with pytest.warns(CheckpointWarning, match=f"step-00000002' is damaged and was passed over: {reason}"):
        assert value_in(two.path) == 1.0
    damage(two.path / "step-00000001" / name)
    with pytest.warns(CheckpointWarning, match="step-0000000[12]") as caught:
        assert two.newest() is None
    assert len(caught) == 2


def test_a_checkpoint_under_another_ones_name_is_passed_over(two: CheckpointFolder) -> None:
    (two.path / "step-00000002").rename(two.path / "step-00000009")
    with pytest.warns(CheckpointWarning, match=r"step-00000009' .*: facts.json says step 2"):
        assert value_in(two.path) == 1.0


def test_damaged_ones_do_not_count_among_those_kept(two: CheckpointFolder) -> None:
    cut(two.path / "step-00000002" / "__0_0.distcp")
    CheckpointFolder(two.path, keep=2).save(3, state_of(3), {"value": 3})
    assert (two.path / "step-00000001").is_dir()
    CheckpointFolder(two.path, keep=2).save(4, state_of(4), {"value": 4})
    assert sorted(path.name for path in two.path.iterdir()) == ["step-00000003", "step-00000004"]


def test_damage_after_the_choice_is_an_error(two: CheckpointFolder) -> None:
    found = two.newest()
    assert found is not None
    flip(found.path / ".metadata")
    with pytest.raises(CheckpointError, match=r"step-00000002' is damaged: .metadata is not what was written"):
        found.restore(state_of(0))
    flip(found.path / ".metadata")
    cut(found.path / "__0_0.distcp")
    with pytest.raises(CheckpointError, match=r"step-00000002': process 0 could not read: .* may be half read"):
        found.restore(state_of(0))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="CheckpointFolder.newest: '.*file' cannot be read: .*Not a directory"):
        CheckpointFolder(tmp_path / "file").newest()
    with pytest.raises(CheckpointError, match=r"file/step-00000001' could not be written: .*It needs 32 bytes"):
        CheckpointFolder(tmp_path / "file").save(1, state_of(0), {})


def test_other_things_in_the_folder_are_left_alone(two: CheckpointFolder) -> None:
    (two.path / "notes.txt").write_text("mine")
    (two.path / "step-7").mkdir()
    (two.path / "step-00000002" / "extra.txt").write_text("mine too")
    assert value_in(two.path) == 2.0
    CheckpointFolder(two.path, keep=1).save(3, state_of(3), {"value": 3})
    assert sorted(path.name for path in two.path.iterdir()) == ["notes.txt", "step-00000003", "step-7"]


# --- malice ------------------------------------------------------------------------------------------------------


class Planted:
    """A pickle that runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file together with its checksum."""
    (folder / name).write_bytes(data)
    sums = json.loads((folder / "sums.json").read_bytes())
    sums[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "sums.json").write_text(json.dumps(sums))


def test_a_planted_pickle_is_not_run(two: CheckpointFolder, tmp_path: Path) -> None:
    found = two.newest()
    assert found is not None
    mark = tmp_path / "ran"
    forge(found.path, ".metadata", pickle.dumps(Planted(f"touch {mark}")))
    asked = r"\.metadata' is not a checkpoint's: it asks for 'posix.system', which no checkpoint needs.*do not trust"
    with pytest.raises(CheckpointError, match=asked):
        two.newest()
    with pytest.raises(CheckpointError, match=asked):
        found.restore(state_of(0))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch", "hub"),
        ("torch.serialization", "load"),
        ("torch.distributed.checkpoint.metadata", "os.system"),
        ("torch.distributed.checkpoint.metadata", "Metadata.__init__"),
        ("torch.distributed.checkpoint.filesystem", "os"),
    ],
)
def test_nothing_but_torchs_records_is_let_in(module: str, name: str, two: CheckpointFolder) -> None:
    found = two.newest()
    assert found is not None
    short = [bytes([0x8C, len(text)]) + text.encode() for text in (module, name)]
    forge(found.path, ".metadata", b"\x80\x04" + b"".join(short) + b"\x93.")  # STACK_GLOBAL
    with pytest.raises(CheckpointError, match=f"it asks for '{module}.{name}'"):
        two.newest()


def test_other_pickles_than_metadata_of_tensors(two: CheckpointFolder) -> None:
    found = two.newest()
    assert found is not None
    metadata = checkpoint_tensors.read_metadata(found.path)
    metadata.state_dict_metadata["net.more"] = None
    for data in (pickle.dumps([1]), pickle.dumps(metadata), b"", b"\x80\x04K", os.urandom(50)):
        forge(found.path, ".metadata", data)
        with pytest.raises(CheckpointError, match=r"\.metadata' is not a checkpoint's"):
            two.newest()


def test_a_file_outside_is_not_read(two: CheckpointFolder, tmp_path: Path) -> None:
    found = two.newest()
    assert found is not None
    shutil.copy(found.path / "__0_0.distcp", tmp_path / "outside")
    metadata = checkpoint_tensors.read_metadata(found.path)
    for info in metadata.storage_data.values():
        info.relative_path = "../outside"
    forge(found.path, ".metadata", pickle.dumps(metadata))
    with pytest.warns(CheckpointWarning, match="outside has no checksum"):
        assert value_in(two.path) == 1.0


def test_a_planted_tensor_is_not_run(two: CheckpointFolder, tmp_path: Path) -> None:
    found = two.newest()
    assert found is not None
    mark = tmp_path / "ran"
    torch.save(Planted(f"touch {mark}"), tmp_path / "planted")
    data = (tmp_path / "planted").read_bytes()
    metadata = checkpoint_tensors.read_metadata(found.path)
    for info in metadata.storage_data.values():
        info.offset, info.length = 0, len(data)
    forge(found.path, ".metadata", pickle.dumps(metadata))
    forge(found.path, "__0_0.distcp", data)
    with pytest.raises(CheckpointError, match="process 0 could not read"):
        found.restore(state_of(0))
    assert not mark.exists()


@pytest.mark.parametrize(("content", "reason"), [(b"{", "JSONDecodeError"), (b"[]", "TypeError"), (b"{}", "KeyError")])
def test_facts_that_somebody_wrote(content: bytes, reason: str, two: CheckpointFolder) -> None:
    forge(two.path / "step-00000002", "facts.json", content)
    with pytest.raises(CheckpointError, match=f"facts.json' is not a checkpoint's: {reason}"):
        two.newest()


def test_a_later_format_is_refused(two: CheckpointFolder) -> None:
    forge(two.path / "step-00000002", "facts.json", b'{"format": 2, "step": 2, "facts": {}}')
    with pytest.raises(CheckpointError, match="must have format 1, got 2. Use the version of facemtl that wrote it"):
        two.newest()


# --- full disks and kills ----------------------------------------------------------------------------------------


def fill_the_disk(rank: int, world_size: int, path: Path, limit: int) -> str:
    """No file may grow beyond ``limit`` bytes, which is what a full disk looks like; SIGXFSZ is ignored by Python."""
    torch.distributed.destroy_process_group()
    big = TrainingState(modules={"net": nn.Linear(10_000, 2)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        CheckpointFolder(path).save(3, big, {"value": 3})
    except CheckpointError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "written"


@pytest.mark.dist
@pytest.mark.parametrize("limit", [0, 700, 50_000])
def test_a_full_disk_names_path_and_bytes_and_costs_nothing(
    limit: int, two: CheckpointFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (message,) = run_gloo(fill_the_disk, 1, two.path, limit, folder=tmp_path_factory.mktemp("store"))
    assert f"{str(two.path / 'step-00000003')!r} could not be written" in message
    assert "It needs 80,008 bytes and" in message
    assert "bytes are free. Earlier checkpoints are as they were." in message
    assert sorted(path.name for path in two.path.iterdir()) == ["step-00000001", "step-00000002"]
    assert value_in(two.path) == 2.0


def die_at_each_touch(rank: int, world_size: int, template: Path, place: Path, step: int) -> list[float]:
    """Save once for each time that saving opens, makes, renames or removes something, and die just before it.

    Returns what the newest checkpoint held after each death, in order.
    """
    torch.distributed.destroy_process_group()
    found: list[float] = []
    for deadly in range(1000):
        path = place / str(deadly)
        shutil.copytree(template, path)
        child = os.fork()
        if child == 0:
            sys.addaudithook(_Death(str(path), deadly))
            CheckpointFolder(path, keep=2).save(step, state_of(step + 0.5), {"value": step + 0.5})
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing damaged may be seen
            found.append(value_in(path))
            CheckpointFolder(path, keep=2).save(9, state_of(9), {"value": 9})
        assert value_in(path) == 9.0
        # Whatever the death left behind is gone; the one before the last is that which was the newest.
        assert len(list(path.iterdir())) == 2, sorted(path.iterdir())
        if status == 0:
            return found
        assert status == 9, status
    raise AssertionError("never ended")


class _Death:
    def __init__(self, path: str, deadly: int) -> None:
        self.path, self.left = path, deadly

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and _about(args[0]).startswith(
            self.path
        ):
            self.left -= 1
            if self.left < 0:
                os._exit(9)


def _about(place: object) -> str:
    if isinstance(place, int):  # shutil.rmtree works on handles
        return os.readlink(f"/proc/self/fd/{place}")
    return os.fspath(place) if isinstance(place, str | os.PathLike) else ""


@pytest.mark.dist
@pytest.mark.parametrize(("step", "before"), [(3, 2.0), (2, 2.0)])
def test_a_run_may_die_at_any_moment(
    step: int, before: float, two: CheckpointFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("deaths")
    (found,) = run_gloo(die_at_each_touch, 1, two.path, place, step, folder=place)
    turn = found.index(step + 0.5)
    assert found == [before] * turn + [step + 0.5] * (len(found) - turn)
    assert turn > 10
    assert len(found) - turn > 3


# --- several processes -------------------------------------------------------------------------------------------


def attempt(action: Callable[[], object]) -> str:
    try:
        action()
    except CheckpointError as error:
        return str(error)
    return "no error"


def fail_on_one(rank: int, world_size: int, path: Path) -> list[str]:
    """One process fails, at one place after another; all must say so, and go on together."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    folder, state = CheckpointFolder(path), state_of(3)

    def failing(module: Any, name: str, culprit: int, action: Callable[[], object]) -> str:
        with pytest.MonkeyPatch.context() as patch:
            if rank == culprit:
                patch.setattr(module, name, lambda *_, **__: (_ for _ in ()).throw(full))
            return attempt(action)

    def save() -> object:
        return folder.save(3, state, {"value": 3})

    found = folder.newest()
    assert found is not None
    return [
        failing(checkpoint_files, "begin", 0, save),
        failing(checkpoint_tensors._Writer, "write_data", 1, save),
        failing(checkpoint_tensors._Writer, "finish", 0, save),
        failing(checkpoint, "write_facts", 0, save),
        failing(checkpoint_files, "sync_file", 1, save),
        failing(checkpoint_files, "sync_folder", 0, save),
        failing(checkpoint_files, "step_folders", 0, folder.newest),
        failing(checkpoint_tensors._Reader, "read_data", 1, lambda: found.restore(state)),
        attempt(lambda: found.restore(state_of(0) if rank == 0 else state_of(0, width=7))),
        attempt(lambda: value_in(path)),
    ]


@pytest.mark.dist
def test_a_failure_of_one_process_is_a_failure_of_all(
    two: CheckpointFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = run_gloo(fail_on_one, 2, two.path, folder=tmp_path_factory.mktemp("store"))
    for message in (*first[:-1], *second[:-1]):
        assert str(two.path) in message
    assert (first[-1], second[-1]) == ("no error", "no error")
    assert "process 1 could not write: OSError(28, 'No space left on device')" in first[1]
    assert "process 1: [Errno 28] No space left on device" in first[4]
    assert "(2, 3) float32 there, (2, 7) float32 here" in first[8]
    assert sorted(path.name for path in two.path.iterdir()) == ["step-00000001", "step-00000002"]


def choose(rank: int, world_size: int, path: Path) -> tuple[float, int]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return value_in(path), sum(entry.category is CheckpointWarning for entry in caught)


@pytest.mark.dist
def test_all_processes_choose_the_same(two: CheckpointFolder, tmp_path_factory: pytest.TempPathFactory) -> None:
    flip(two.path / "step-00000002" / "__0_0.distcp")
    chosen = run_gloo(choose, 2, two.path, folder=tmp_path_factory.mktemp("store"))
    assert chosen == [(1.0, 1), (1.0, 0)]
