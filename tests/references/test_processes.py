"""Several real processes against one that does all the work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from facemtl.training.interruption import listen_for_stop
from facemtl.training.processes import Processes, launch
from tests.gloo import run_gloo

ALONE = Processes(0, 0, 1, torch.device("cpu"))
STEPS = 4
BATCH = 8


def network() -> nn.Sequential:
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.PReLU(6), nn.Flatten(), nn.Linear(6 * 7 * 7, 5)
    )
    nn.init.uniform_(layers[1].running_var, 0.5, 2.0)
    return layers.eval()  # its norm with the statistics that it has: a share's own would be others than the whole's


class Trajectory(NamedTuple):
    losses: list[float]
    gradients: list[list[Tensor]]
    weights: list[Tensor]


def train(processes: Processes) -> Trajectory:
    """A few updates on this process's share of batches that are the same for every number of processes."""
    original = network()
    wrapped = processes.parallel(original)
    optimizer = torch.optim.SGD(original.parameters(), lr=0.1, momentum=0.9)
    share = processes.share_of(BATCH, "global_batch")
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    generator = torch.Generator().manual_seed(11)
    losses, gradients = [], []
    for _ in range(STEPS):
        images = torch.randn(BATCH, 3, 16, 16, generator=generator)[own]
        labels = torch.randint(5, (BATCH,), generator=generator)[own]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(wrapped(images), labels)
        loss.backward()
        losses.append(processes.mean(loss).item())
        gradients.append([parameter.grad.clone() for parameter in original.parameters()])
        optimizer.step()
    return Trajectory(losses, gradients, [parameter.detach().clone() for parameter in original.parameters()])


def _train(rank: int, world_size: int) -> Trajectory:
    torch.manual_seed(rank)
    with launch("cpu") as processes:
        assert (processes.rank, processes.world_size) == (rank, world_size)
        return train(processes)


@pytest.mark.dist
def test_two_processes_with_half_batches_equal_one_with_the_whole(tmp_path: Path) -> None:
    alone = train(ALONE)
    first, second = run_gloo(_train, 2, folder=tmp_path)
    assert first.losses == second.losses == pytest.approx(alone.losses, rel=1e-5)
    assert alone.losses[-1] != pytest.approx(alone.losses[0], rel=1e-2)
    for ours in (first, second):
        torch.testing.assert_close(ours.gradients, alone.gradients, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.weights, alone.weights, rtol=1e-5, atol=1e-6)


def _speak(rank: int, world_size: int) -> dict[str, Any]:
    with launch("cpu") as processes:
        seen: dict[str, Any] = {
            "rank": (processes.rank, processes.local_rank, processes.is_main),
            "any": processes.any(False, rank == 2, rank != 1),
            "none": processes.any(),
            "share": processes.share({"words": ["a", 1.5], "tensor": torch.tensor([rank])}),
        }
        numbers = torch.tensor([rank, 10.0 * rank, 1e-3], dtype=torch.float64)
        seen["mean"] = processes.mean(numbers).tolist()
        seen["kept"] = numbers.tolist()
        seen["half"] = processes.mean(torch.tensor([1.0, 256.0 + rank], dtype=torch.bfloat16)).dtype
        began = time.monotonic()
        time.sleep(0.5 * (rank == 0))
        processes.barrier()
        seen["waited"] = time.monotonic() - began
        frozen = nn.Linear(2, 1).requires_grad_(False)
        seen["frozen"] = processes.parallel(frozen) is frozen
        seen["batch norm"] = list(_share_of_a_batch_norm(processes))
    seen["still there"] = torch.distributed.is_initialized()
    return seen


def _share_of_a_batch_norm(processes: Processes) -> tuple[float, float]:
    """Running mean with and without the buffers of process 0."""
    for broadcast in (True, False):
        norm = nn.BatchNorm1d(1, momentum=1.0)
        wrapped = processes.parallel(norm, broadcast_buffers=broadcast)
        wrapped(torch.full((4, 1), float(processes.rank)) + torch.arange(4.0)[:, None]).sum().backward()
        wrapped.eval()
        wrapped(torch.zeros(4, 1))
        yield norm.running_mean.item()


@pytest.mark.dist
def test_what_three_processes_say_together(tmp_path: Path) -> None:
    results = run_gloo(_speak, 3, folder=tmp_path)
    for rank, seen in enumerate(results):
        assert seen["rank"] == (rank, rank, rank == 0)
        assert seen["any"] == (False, True, True)
        assert seen["none"] == ()
        assert seen["share"]["words"] == ["a", 1.5]
        assert seen["share"]["tensor"].item() == 0
        assert seen["mean"] == pytest.approx([1.0, 10.0, 1e-3], rel=1e-12)
        assert seen["kept"] == [rank, 10.0 * rank, 1e-3]
        assert seen["half"] == torch.float32
        assert seen["waited"] > 0.4
        assert seen["frozen"]
        assert seen["batch norm"] == [1.5, 1.5 + rank]
        assert seen["still there"]


def _judge_twice(rank: int, world_size: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gradient of a discriminator that judges two batches before backward: wrapped, and on this share alone."""
    outcomes = []
    with launch("cpu") as processes:
        for broadcast in (True, False):
            gradients = []
            faces = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(rank))
            for wrap in (True, False):
                torch.manual_seed(4 + 10 * rank * wrap)  # the wrapped ones begin with process 0's weights and vectors
                judge = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
                judges = processes.parallel(judge, broadcast_buffers=broadcast) if wrap else judge
                (judges(faces[0]).mean() - judges(faces[1]).square().mean()).backward()
                gradients.append(judge.parametrizations.weight.original.grad.clone())
                vector = judge.parametrizations.weight[0]._u.clone()
            outcomes.append((*gradients, vector))
    return outcomes


@pytest.mark.dist
def test_a_discriminator_judges_twice_before_backward(tmp_path: Path) -> None:
    for (wrapped, own, vector), (other_wrapped, other_own, other_vector) in zip(
        *run_gloo(_judge_twice, 2, folder=tmp_path), strict=True
    ):
        assert torch.equal(wrapped, other_wrapped)
        assert not torch.equal(own, other_own)
        torch.testing.assert_close(wrapped, (own + other_own) / 2, rtol=1e-5, atol=1e-6)
        assert torch.equal(vector, other_vector)


def test_one_process_is_alone() -> None:
    module, values = nn.BatchNorm1d(2), torch.ones(2, requires_grad=True)
    with launch("cpu") as processes:
        assert processes == ALONE
        assert not torch.distributed.is_initialized()
        assert processes.parallel(module) is module
        assert not processes.mean(values).requires_grad
        assert processes.mean(values.double() * 3).tolist() == [3.0, 3.0]
        assert processes.any(True, False, 1 > 2) == (True, False, False)
        assert processes.share(module) is module
        processes.barrier()


def _stop_together(rank: int, world_size: int) -> tuple[int, str | None]:
    with launch("cpu") as processes, listen_for_stop() as stop:
        for step in range(1, 200):
            if step == 7 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            (stopping,) = processes.any(stop.requested)
            if stopping:
                return step, stop.name
    raise AssertionError("nobody stopped")


@pytest.mark.dist
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    assert run_gloo(_stop_together, 2, folder=tmp_path) == [(7, None), (7, "SIGTERM")]


def torchrun(folder: Path, script: str, *, processes: int = 2) -> subprocess.Popen[str]:
    path = folder / "job.py"
    path.write_text("import os\nimport torch\nfrom facemtl.training.processes import launch\n")
    with path.open("a") as file:
        file.write(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FOLDER": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.dist
@pytest.mark.slow
def test_a_process_that_raises_ends_the_job_with_its_message(tmp_path: Path) -> None:
    job = torchrun(
        tmp_path,
        """
        with launch("cpu") as processes:
            try:
                for step in range(1, 10):
                    if step == 3 and processes.rank == 1:
                        raise ValueError("the step that fails is number 3")
                    processes.mean(torch.zeros(1))
            except BaseException:
                open(f"{os.environ['FOLDER']}/{processes.rank}.raised", "w").close()
                raise
        """,
    )
    _, errors = job.communicate(timeout=120)
    assert job.returncode not in (0, None)
    assert "ValueError: the step that fails is number 3" in errors
    assert (tmp_path / "0.raised").is_file(), "rank 0 lost its peer and raised"
    # Even without torch's record on a main function, the summary names whose fault it was.
    summary = errors[errors.index("Root Cause") :]
    assert re.search(r"rank\s*:\s*1 ", summary), summary
    assert "the step that fails is number 3" in summary
    # It is so by order of time, in whole seconds: in the same one it would be so by chance.
    times = re.findall(r"time\s*: (\S+)", errors)
    assert len(set(times)) == len(times)


@pytest.mark.dist
@pytest.mark.slow
def test_under_torchrun_the_group_is_made_and_destroyed(tmp_path: Path) -> None:
    job = torchrun(
        tmp_path,
        """
        from datetime import timedelta
        with launch(timeout=timedelta(seconds=30)) as processes:
            print(processes.any(processes.rank == 1), processes.share(os.getpid() if processes.is_main else 0) > 0)
        assert not torch.distributed.is_initialized()
        """,
    )
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert output.splitlines() == ["(True,) True"] * 2
    assert "destroy_process_group" not in errors
