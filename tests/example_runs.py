"""Tiny runs of examples/mtlface_lcaf.py, in this process, in others and under signals."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "examples" / "mtlface_lcaf.py"
TINY = (
    *("--faces.image-size", "32", "--faces.workers", "0", "--faces.held-out-people", "0"),
    *("--model.depth", "18", "--model.width", "4", "--model.embedding-dimension", "16"),
    *("--model.discriminator-preset", "paper2021"),
    *("--recognition.steps", "5", "--recognition.global-batch", "16", "--recognition.learning-rate", "0.01"),
    *("--recognition.warmup", "2", "--recognition.milestones", "4"),
    *("--synthesis.steps", "5", "--synthesis.global-batch", "8", "--synthesis.generator-delay", "1"),
    *("--compute.store-encodings", "0", "--compute.no-channels-last"),
    *("--record.log-every", "1", "--record.checkpoint-every", "2", "--record.grid-every", "100"),
    *("--record.no-tensorboard", "--record.no-onnx"),
)
CPU = ("--compute.device", "cpu")


def example() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("mtlface_lcaf", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(output: Path, *options: str) -> int:
    """Run it here; gives its exit code."""
    code: int = example().main([*TINY, *CPU, "--output", str(output), *options])
    return code


def gloo_worker(rank: int, world_size: int, output: str, options: tuple[str, ...]) -> int:
    """Run it as one of several processes, for :func:`tests.gloo.run_gloo`."""
    return run(Path(output), *options)


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    """Start it in a process of its own."""
    command = [sys.executable, "-W", "error::UserWarning", str(EXAMPLE), *TINY, *CPU, "--output", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for_step(process: subprocess.Popen[str], output: Path, step: int, *, seconds: float = 240.0) -> None:
    """Wait until a started run has written the metrics of a step, or has ended."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        path = output / "metrics.csv"
        if path.is_file() and path.read_text().count("\n") > step:
            return
        time.sleep(0.02)


def metrics(output: Path) -> dict[int, dict[str, float]]:
    """What a run logged, by step, without its speed."""
    with open(output / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        int(row["step"]): {
            name: float(value) for name, value in row.items() if value and name not in ("step", "images_per_second")
        }
        for row in rows
    }


def largest_difference(ours: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]]) -> tuple[float, Any]:
    """Largest difference of two logs relative to the size of the number (1 at least), and where; they have the same
    rows."""
    assert ours.keys() == theirs.keys()
    worst: tuple[float, Any] = (0.0, None)
    for step, row in ours.items():
        assert row.keys() == theirs[step].keys()
        for name, value in row.items():
            if name.endswith("gradient_norm"):  # not a loss; of a sum over thousands of pixels
                continue
            difference = abs(value - theirs[step][name]) / max(1.0, abs(value))
            worst = max(worst, (difference, (step, name)), key=lambda item: item[0])
    return worst
