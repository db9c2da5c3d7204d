"""Ratios of time and peaks of memory that survive a noisy machine.

Times of one side alone drift with whatever else the machine does. :func:`compare` runs both sides alternately in one
process, so that each round gives a ratio, and reports the median of the ratios. :func:`peak_memory` counts what torch's
allocator holds at most beyond what was live before; :func:`peak_resident` asks the operating system instead, as a cross
check.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

MEGABYTE = 1e6


class Comparison(NamedTuple):
    """How much faster the candidate is than the baseline."""

    ratio: float
    """Median over the rounds of baseline time / candidate time: above 1 the candidate is faster."""
    lowest: float
    highest: float
    baseline_seconds: float
    """Median time of the baseline."""
    candidate_seconds: float
    best: float
    """Ratio of the shortest times: what a machine without neighbours would show, as they only ever add time."""

    def __str__(self) -> str:
        return (
            f"{self.ratio:.2f}x [{self.lowest:.2f}, {self.highest:.2f}], of the best times {self.best:.2f}x "
            f"({self.baseline_seconds * 1e3:.1f} ms -> {self.candidate_seconds * 1e3:.1f} ms)"
        )


def compare(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    *,
    rounds: int = 7,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time both sides alternately, first the one and then the other in turn, and return the median ratio.

    Each call runs once a round; the sides swap places every round, so that neither always finds the caches warm. With
    one thread ``clock=time.process_time`` leaves out the time in which other processes had the core.
    """
    for _ in range(warm_up):
        baseline()
        candidate()
    baseline_times, candidate_times = [], []
    for number in range(rounds):
        if number % 2:
            candidate_times.append(seconds(candidate, clock))
            baseline_times.append(seconds(baseline, clock))
        else:
            baseline_times.append(seconds(baseline, clock))
            candidate_times.append(seconds(candidate, clock))
    ratios = [b / c for b, c in zip(baseline_times, candidate_times, strict=True)]
    return Comparison(
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(baseline_times),
        statistics.median(candidate_times),
        min(baseline_times) / min(candidate_times),
    )


def seconds(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call; the result is dropped before the clock stops."""
    start = clock()
    function()
    return clock() - start


def peak_memory(function: Callable[[], object]) -> int:
    """Largest number of bytes that torch's CPU allocator held during ``function``, beyond what was live before.

    Read from the profiler's allocation events, so it is exact and repeatable. Memory that is not torch's (MKL's
    packing buffers) is not counted: see :func:`peak_resident`.
    """
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    del result
    allocations = sorted(
        ((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"),
        key=lambda item: item[0],
    )
    held = peak = 0
    for _, size in allocations:
        held += size
        peak = max(peak, held)
    return peak


def peak_resident(function: Callable[[], object]) -> int:
    """Largest growth of the process's resident memory during ``function``, as Linux counts it.

    Coarser than :func:`peak_memory` and counts what other libraries allocate too: call ``function`` once before, so
    that they have their buffers. Freed blocks go back to the system first, or they would hide what this call needs.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to what is resident now
    before = _status("VmRSS")
    result = function()
    peak = _status("VmHWM")
    del result
    return peak - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
