from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

from facemtl.networks.patch_discriminator import PatchDiscriminator
from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.state import TrainingState
from tests.gloo import run_gloo


class Run:
    """A small run whose every step is a function of the step's number, as the trainer's steps are."""

    def __init__(
        self, net: Callable[[], nn.Module], optimizer: Callable[..., torch.optim.Optimizer], shape: tuple[int, ...]
    ) -> None:
        self.net = net()
        self.optimizer = optimizer([p for p in self.net.parameters() if p.requires_grad])
        self.shape = shape
        self.state = TrainingState(modules={"net": self.net}, optimizers={"main": self.optimizer})

    def step(self, step: int) -> Tensor:
        torch.manual_seed(step)
        loss = self.net(torch.randn(self.shape)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def convolutions() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Dropout(0.4), nn.Flatten(), nn.Linear(144, 3)
    )
    net[0].to(memory_format=torch.channels_last)
    net[5].weight.requires_grad_(False)
    return net


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.discriminator = PatchDiscriminator(width=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.discriminator(images, torch.arange(len(images)))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.99)),
    "fused adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch norm and dropout": (convolutions, (4, 3, 8, 8)),
    "spectral norm": (Judge, (2, 3, 32, 32)),
}


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), name
        assert got[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(net: str, optimizer: str, tmp_path: Path) -> None:
    whole = Run(NETS[net][0], OPTIMIZERS[optimizer], NETS[net][1])
    for step in range(3):
        whole.step(step)
    folder = CheckpointFolder(tmp_path)
    assert folder.save(3, whole.state, {}) == tmp_path / "step-00000003"
    losses = [whole.step(step) for step in range(3, 6)]

    torch.manual_seed(99)
    resumed = Run(NETS[net][0], OPTIMIZERS[optimizer], NETS[net][1])
    checkpoint = folder.newest()
    assert checkpoint is not None
    checkpoint.restore(resumed.state)
    assert checkpoint.step == 3
    assert [resumed.step(step) for step in range(3, 6)] == losses
    # torch's own idea of the state, not ours.
    assert_same(dict(resumed.net.state_dict()), dict(whole.net.state_dict()))
    for got, wanted in zip(resumed.optimizer.state.values(), whole.optimizer.state.values(), strict=True):
        assert_same(got, wanted)
    assert len(whole.optimizer.state) == (
        0 if optimizer == "plain sgd" else len(whole.optimizer.param_groups[0]["params"])
    )


def test_torchs_own_loader_reads_the_same(tmp_path: Path) -> None:
    run = Run(convolutions, OPTIMIZERS["adam"], (4, 3, 8, 8))
    run.step(0)
    where = CheckpointFolder(tmp_path / "run").save(1, run.state, {})
    entries = dcp.FileSystemReader(where).read_metadata().state_dict_metadata
    plain = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries.items()}
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(plain, checkpoint_id=where)
    assert_same(plain, run.state.tensors())
    assert str(tmp_path).encode() not in (where / ".metadata").read_bytes()


def test_names_are_those_of_the_bare_module(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)  # a name that a wrapper uses too
            self.inner = torch.compile(nn.Linear(2, 2, bias=False))
            self.tied = self.inner._orig_mod.weight
            self.register_buffer("table", torch.ones(2), persistent=False)
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    net = Pair()
    names = list(TrainingState(modules={"net": net}).tensors())
    assert names == ["net.tied", "net.module.weight", "net.module.bias", "net.count"]
    wrapped = TrainingState(modules={"net": nn.DataParallel(torch.compile(net))})
    assert list(wrapped.tensors()) == names
    CheckpointFolder(tmp_path).save(0, wrapped, {})
    fresh = Pair()
    CheckpointFolder(tmp_path).newest().restore(TrainingState(modules={"net": fresh}))
    assert_same(dict(fresh.state_dict()), dict(net.state_dict()))


def test_a_tensor_that_two_modules_share_is_there_once() -> None:
    net = convolutions()
    names = TrainingState(modules={"whole": net, "part": net[:2]}).tensors()
    assert len(names) == len(net.state_dict())
    assert not any(name.startswith("part.") for name in names)


def test_optimizers_get_what_the_checkpoint_has_and_keep_their_options(tmp_path: Path) -> None:
    saved = Run(convolutions, OPTIMIZERS["sgd"], (4, 3, 8, 8))
    CheckpointFolder(tmp_path).save(0, saved.state, {})  # has not stepped: no momentum
    stepped = Run(convolutions, OPTIMIZERS["sgd"], (4, 3, 8, 8))
    stepped.step(0)
    stepped.optimizer.param_groups[0]["lr"] = 0.025
    CheckpointFolder(tmp_path).newest().restore(stepped.state)
    assert not stepped.optimizer.state
    assert stepped.optimizer.param_groups[0]["lr"] == 0.025
    assert_same(stepped.state.tensors(), saved.state.tensors())


def test_state_is_read_in_place_where_it_is(tmp_path: Path) -> None:
    run = Run(convolutions, OPTIMIZERS["adam"], (4, 3, 8, 8))
    run.step(0)
    CheckpointFolder(tmp_path).save(1, run.state, {})
    places = {name: tensor.data_ptr() for name, tensor in run.state.tensors().items()}
    wanted = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
    run.step(1)
    CheckpointFolder(tmp_path).newest().restore(run.state)
    assert {name: tensor.data_ptr() for name, tensor in run.state.tensors().items()} == places
    assert_same(run.state.tensors(), wanted)


def test_adams_step_goes_where_the_optimizer_wants_it(tmp_path: Path) -> None:
    narrow = Run(convolutions, OPTIMIZERS["adam"], (4, 3, 8, 8))
    narrow.step(0)
    for entry in narrow.optimizer.state.values():
        entry["step"] = entry["step"].double()  # as under a default dtype of float64
    CheckpointFolder(tmp_path).save(1, narrow.state, {})
    fused = Run(convolutions, OPTIMIZERS["fused adam"], (4, 3, 8, 8))
    CheckpointFolder(tmp_path).newest().restore(fused.state)
    steps = {(entry["step"].item(), entry["step"].dtype) for entry in fused.optimizer.state.values()}
    assert steps == {(1.0, torch.float32)}  # what fused kernels take
    fused.step(1)


def test_facts_come_back_as_json_gives_them(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    facts = {
        "phase": "recognition",
        "scaler": scaler.state_dict(),
        "pair": (1, 2.5),
        "loss": float("nan"),
        "none": None,
    }
    CheckpointFolder(tmp_path).save(7, TrainingState(modules={}), facts)
    found = CheckpointFolder(tmp_path).newest()
    assert (found.step, found.path) == (7, tmp_path / "step-00000007")
    assert found.facts["pair"] == [1, 2.5]
    assert found.facts["loss"] != found.facts["loss"]
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(found.facts["scaler"])
    assert other.state_dict() == scaler.state_dict()
    written = json.loads((found.path / "facts.json").read_text())
    assert (written["step"], written["torch"]) == (7, torch.__version__)


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    state = TrainingState(modules={"net": nn.Linear(1, 1)})
    folder = CheckpointFolder(tmp_path, keep=2)
    assert folder.newest() is None
    for step in (100, 5, 20, 30):
        folder.save(step, state, {"step": step})
    # 100 is of a course that the run has left; it was not this save's to remove.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020", "step-00000030", "step-00000100"]
    folder.save(100, state, {"step": "again"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000030", "step-00000100"]
    assert folder.newest().facts == {"step": "again"}


# --- several processes -------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A margin head's weight, cut by rows where there are several processes."""

    def __init__(self, rows: int, mesh: Any) -> None:
        super().__init__()
        weight = torch.zeros(rows, 3)
        self.weight = nn.Parameter(weight if mesh is None else distribute_tensor(weight, mesh, [Shard(0)]))


def sharded_run(rows: int, world_size: int, fused: bool) -> tuple[Head, nn.Module, TrainingState]:
    mesh = init_device_mesh("cpu", (world_size,)) if world_size > 1 else None
    head, body = Head(rows, mesh), nn.BatchNorm1d(5)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "head": torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9),
        # By themselves: fused kernels do not take sharded and plain tensors together.
        "adam": torch.optim.Adam(head.parameters(), lr=0.1, fused=fused),
        "body": torch.optim.Adam(body.parameters(), lr=0.1, fused=fused),
    }
    return head, body, TrainingState(modules={"head": head, "body": body}, optimizers=optimizers)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def train(head: Head, body: nn.Module, state: TrainingState, steps: range) -> None:
    """Gradients that are functions of the step alone, the same for any number of processes."""
    for step in steps:
        for parameter in [head.weight, *body.parameters()]:
            gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            parameter.grad = (
                distribute_tensor(gradient, parameter.device_mesh, parameter.placements)
                if isinstance(parameter, DTensor)
                else gradient
            )
        for optimizer in state.optimizers.values():
            optimizer.step()
        body.running_mean.add_(step)


def train_and_save(rank: int, world_size: int, rows: int, path: Path) -> dict[str, Tensor]:
    head, body, state = sharded_run(rows, world_size, fused=False)
    train(head, body, state, range(3))
    CheckpointFolder(path).save(3, state, {"rank": rank, "world_size": world_size})
    return {name: whole(tensor) for name, tensor in state.tensors().items()}


def resume(rank: int, world_size: int, rows: int, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    head, body, state = sharded_run(rows, world_size, fused=True)
    checkpoint = CheckpointFolder(path).newest()
    assert checkpoint is not None
    assert checkpoint.facts["rank"] == 0
    checkpoint.restore(state)
    read = {name: whole(tensor) for name, tensor in state.tensors().items()}
    if world_size > 1:
        assert all(isinstance(tensor, DTensor) == (tensor.dim() == 2) for tensor in state.tensors().values())
    train(head, body, state, range(3, 5))
    return read, {name: whole(tensor) for name, tensor in state.tensors().items()}


@pytest.mark.dist
@pytest.mark.parametrize(("before", "after", "rows"), [(1, 2, 7), (2, 1, 7), (4, 2, 10), (2, 4, 3), (4, 1, 3)])
def test_any_number_of_processes_resumes(before: int, after: int, rows: int, tmp_path: Path) -> None:
    one = sharded_run(rows, 1, fused=False)
    train(*one, range(3))
    wanted = {name: tensor.clone() for name, tensor in one[2].tensors().items()}
    path = tmp_path / "run"
    written = in_processes(train_and_save, before, rows, path, folder=tmp_path)
    for entry in written:
        assert_same(entry, wanted)
    train(*one, range(3, 5))
    for read, ended in in_processes(resume, after, rows, path, folder=tmp_path):
        assert_same(read, wanted)
        torch.testing.assert_close(ended, one[2].tensors(), rtol=1e-6, atol=1e-6)


def in_processes(worker: Callable[..., Any], size: int, *args: Any, folder: Path) -> list[Any]:
    return [worker(0, 1, *args)] if size == 1 else run_gloo(worker, size, *args, folder=folder)


def mark(norm: nn.Module, value: int) -> None:
    for buffer in norm.buffers():
        buffer.fill_(value)


def save_unlike_buffers(rank: int, world_size: int, path: Path) -> list[int]:
    norm = nn.BatchNorm1d(2)
    state = TrainingState(modules={"norm": nn.parallel.DistributedDataParallel(norm)})
    mark(norm, rank + 1)  # after wrapping, which makes all alike
    folder = CheckpointFolder(path)
    folder.save(1, state, {})
    found = folder.newest()
    assert found is not None
    found.restore(state)
    return [int(value) for buffer in norm.buffers() for value in buffer.flatten()]


@pytest.mark.dist
def test_what_all_have_is_taken_from_the_first(tmp_path: Path) -> None:
    assert run_gloo(save_unlike_buffers, 2, tmp_path / "run", folder=tmp_path) == [[1] * 5] * 2
    fresh = nn.BatchNorm1d(2)
    mark(fresh, 7)
    CheckpointFolder(tmp_path / "run").newest().restore(TrainingState(modules={"norm": fresh}))
    assert [int(value) for buffer in fresh.buffers() for value in buffer.flatten()] == [1] * 5


def test_a_copied_or_moved_checkpoint_still_reads(tmp_path: Path) -> None:
    run = Run(convolutions, OPTIMIZERS["sgd"], (4, 3, 8, 8))
    run.step(0)
    CheckpointFolder(tmp_path / "here").save(1, run.state, {})
    (tmp_path / "here").rename(tmp_path / "there")
    other = copy.deepcopy(run.net)
    nn.init.zeros_(other[0].weight)
    state = TrainingState(modules={"net": other}, optimizers={"main": OPTIMIZERS["sgd"](list(other.parameters()))})
    CheckpointFolder(tmp_path / "there").newest().restore(state)
    assert_same(state.tensors(), run.state.tensors())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{"fused": True}, {"capturable": True}, {}])
def test_a_run_on_a_gpu_resumes_there(options: dict[str, bool], tmp_path: Path) -> None:
    def build() -> TrainingState:
        net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).cuda()
        adam = torch.optim.Adam(net.parameters(), lr=0.01, **options)
        return TrainingState(modules={"net": net}, optimizers={"adam": adam})

    def step(state: TrainingState, number: int) -> None:
        images = torch.randn(6, 5, generator=torch.Generator().manual_seed(number)).cuda()
        state.modules["net"](images).square().mean().backward()
        state.optimizers["adam"].step()
        state.optimizers["adam"].zero_grad()

    whole, resumed = build(), build()
    step(whole, 0)
    CheckpointFolder(tmp_path).save(1, whole, {})
    CheckpointFolder(tmp_path).newest().restore(resumed)
    assert_same(resumed.tensors(), whole.tensors())
    places = [{name: tensor.device for name, tensor in state.tensors().items()} for state in (whole, resumed)]
    assert places[0] == places[1]
    for state in (whole, resumed):
        step(state, 1)
    assert_same(resumed.tensors(), whole.tensors())
