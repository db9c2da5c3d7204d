"""How long does a manifest of 1.7 million faces (LCAF's size) take to load, and how much memory?

Each reading runs in a fresh process, which measures its own peak above what it had before; files are not looked for.
The memory of the process itself (torch) is not counted; it is told on Linux alone. Aims: under 5 seconds and 300 MB.

    python benchmarks/manifest.py [--rows 1700000] [--people 85000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from facemtl.data.manifest import read_manifest

# Whole ages, as the paper's; estimates with digits, nearly each a text of its own; people called by letters.
_KINDS = ("whole.txt", "digits.txt", "letters.txt", "whole.csv", "whole.parquet")


def write_lines(path: Path, kind: str, rows: int, people: int) -> None:
    """A manifest like LCAF's, in the order of its people."""
    generator = np.random.default_rng(0)
    who = np.sort(generator.integers(0, people, rows)).tolist()
    ages = generator.integers(0, 101, rows) if kind != "digits.txt" else generator.uniform(0, 100, rows).round(4)
    person = "m.{:06x}_x" if kind == "letters.txt" else "{}"
    with open(path, "w") as file:
        for row, (identity, age) in enumerate(zip(who, ages.tolist(), strict=True)):
            file.write(f"{person.format(identity)} {identity:07d}/{row:09d}.jpg {age} {row % 2}\n")


def measure(path: Path) -> None:
    """Print the seconds of one reading in this process, those of the processor, and megabytes (10^6 bytes)."""
    before = _peak()
    start, start_cpu = time.perf_counter(), time.process_time()
    read_manifest(path, check_files=False)
    print(time.perf_counter() - start, time.process_time() - start_cpu, _peak() - before)


def _peak() -> float:
    """Most memory that this process has had; getrusage would tell of its parent, too, from before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def main() -> None:
    """Write the manifests and read each several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_700_000)
    parser.add_argument("--people", type=int, default=85_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure)
        return
    print("| manifest | MB | seconds [range] | of the processor | MB above the start |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / kind for kind in _KINDS]
        for path in paths[:3]:
            write_lines(path, path.name, arguments.rows, arguments.people)
        whole = read_manifest(paths[0], check_files=False)
        for path in paths[3:]:
            whole.save(path)
        for path in paths:
            command = [sys.executable, __file__, "--measure", str(path)]
            runs = [
                [float(word) for word in subprocess.run(command, check=True, capture_output=True).stdout.split()]
                for _ in range(arguments.rounds)
            ]
            seconds, processor, memory = zip(*runs, strict=True)
            spread = f"{statistics.median(seconds):.1f} [{min(seconds):.1f}, {max(seconds):.1f}]"
            size, mine = path.stat().st_size / 1e6, statistics.median(processor)
            print(f"| {path.name} | {size:.0f} | {spread} | {mine:.1f} | {max(memory):.0f} |", flush=True)


if __name__ == "__main__":
    main()
