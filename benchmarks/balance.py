"""Counting and balancing a manifest of the paper's size, whose labels are drawn: `python benchmarks/balance.py`.

Prints, for several least numbers of faces a person, the faces of each cell beside the bound, and seconds and memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._timing import peak_resident
from facemtl.data.balance import balance_manifest
from facemtl.data.statistics import manifest_statistics
from tests.labelled_manifests import drawn_manifest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=1_700_000)
    parser.add_argument("--people", type=int, default=85_000)
    options = parser.parse_args()
    manifest = drawn_manifest(0, options.people, options.faces, unknown=0.01)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        manifest_statistics(manifest)
        times.append(time.perf_counter() - start)
    print(manifest_statistics(manifest).table())
    print(f"\ncounting: {statistics.median(times):.2f} s, median of 5")
    for least in (1, 2, 10, 20):
        start = time.perf_counter()
        part = balance_manifest(manifest, min_faces_per_identity=least)
        seconds = time.perf_counter() - start
        print(
            f"at least {least} a person: {part.faces_per_cell:,} faces a cell of {part.most_per_cell:,} at most, "
            f"{len(part.manifest):,} faces, {part.manifest.num_identities:,} people, {seconds:.1f} s"
        )
    print(f"memory while balancing: {peak_resident(lambda: balance_manifest(manifest)) / 1e6:.0f} MB more")


if __name__ == "__main__":
    main()
