"""Does the class-parallel head take the memory, the bytes and the time that the scaling page foretells?

For each number of gloo processes on this machine, with the *global* batch and the identities fixed: bytes that a
process sends in a step, what it holds, and the time of a step, each beside the model of docs/training/scaling.md. A
step is forward, backward and SGD with momentum of the head alone; the last column adds an encoder of two linear layers
under DistributedDataParallel and tells its bytes. Linux only: bytes are what a process wrote, by /proc/self/io.

    python benchmarks/sharded_head.py [--processes 1 2 4 8] [--identities 40000] [--batch 128] [--dimension 128]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from _timing import MEGABYTE, peak_memory, peak_resident
from torch import Tensor, nn

from facemtl.heads.sharded import ShardedCosFace

BLOCK = 2**19 * 4
"""Bytes of the lean way's blocks on a CPU."""


class Sizes(NamedTuple):
    """What is the same whatever the number of processes."""

    identities: int
    batch: int
    """Of all processes together."""
    dimension: int
    rounds: int


class Model(NamedTuple):
    """What the scaling page foretells, in bytes for each process."""

    sent: float
    held: float
    encoder_sent: float


def foretold(sizes: Sizes, processes: int, encoder_parameters: int) -> Model:
    """The formulas of docs/training/scaling.md, for float32 and gloo."""
    rows = -(-sizes.identities // processes)
    share = (processes - 1) / processes
    embeddings = 4 * sizes.batch * sizes.dimension
    sent = share * (3 * embeddings + 48 * sizes.batch + 8 * processes)
    # weight, gradient, momentum; the block; gathered embeddings, scaled, pushed and pulled, and the targets' weights
    held = 3 * 4 * rows * sizes.dimension + BLOCK + 5 * embeddings
    return Model(sent, held, share * 2 * 4 * encoder_parameters)


def bytes_written() -> int:
    """Bytes that this process has written so far, to sockets too."""
    return int(Path("/proc/self/io").read_text().split("wchar:")[1].split()[0])


def measure(rank: int, processes: int, sizes: Sizes, folder: str) -> None:
    """Measure in one of the processes, and write what the first one found."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    share = sizes.batch // processes
    generator = torch.Generator().manual_seed(rank)
    embeddings = torch.randn(share, sizes.dimension, generator=generator).requires_grad_()
    labels = torch.randint(sizes.identities, (share,), generator=generator)
    head = ShardedCosFace(sizes.dimension, sizes.identities, lean=True, seed=0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)

    def step(inputs: Tensor = embeddings) -> None:
        optimizer.zero_grad()
        head(inputs, labels).backward()
        optimizer.step()

    step()
    step()
    optimizer.zero_grad()
    live = 2 * (head.weight if processes == 1 else head.weight.to_local()).numel() * 4
    result = {"held": live + peak_memory(step)}
    optimizer.zero_grad()
    result["resident"] = live + peak_resident(step)
    result |= timed(step, sizes.rounds)
    hidden = nn.Sequential(nn.Linear(sizes.dimension, 2048), nn.Linear(2048, sizes.dimension))
    encoder = hidden if processes == 1 else nn.parallel.DistributedDataParallel(hidden)
    inputs = embeddings.detach()

    def whole_step() -> None:
        step(encoder(inputs))

    for _ in range(3):  # DDP builds its buckets in the first
        whole_step()
    result["encoder_sent"] = timed(whole_step, 3)["sent"] - result["sent"]
    result["encoder_parameters"] = sum(parameter.numel() for parameter in hidden.parameters())
    if rank == 0:
        Path(f"{folder}/result.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def timed(step: Callable[[], None], rounds: int) -> dict[str, float]:
    """Median wall and processor seconds, and mean bytes written, of a step."""
    walls, processors = [], []
    dist.barrier()
    written = bytes_written()
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - start[0])
        processors.append(time.process_time() - start[1])
    return {
        "sent": (bytes_written() - written) / rounds,
        "wall": statistics.median(walls),
        "processor": statistics.median(processors),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--identities", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=128, help="of all processes together")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    sizes = Sizes(options.identities, options.batch, options.dimension, options.rounds)
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, {sizes}")
    print("KB and MB are measured / foretold; resident is the same as held, by the operating system.")
    print("| processes | head sends, KB | holds, MB | resident, MB | step, ms | processor, ms | DDP sends, KB |")
    for processes in options.processes:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(measure, args=(processes, sizes, folder), nprocs=processes)
            found = json.loads(Path(f"{folder}/result.json").read_text())
        model = foretold(sizes, processes, found["encoder_parameters"])
        print(
            f"| {processes} | {found['sent'] / 1e3:.1f} / {model.sent / 1e3:.1f} "
            f"| {found['held'] / MEGABYTE:.2f} / {model.held / MEGABYTE:.2f} | {found['resident'] / MEGABYTE:.2f} "
            f"| {found['wall'] * 1e3:.1f} | {found['processor'] * 1e3:.1f} "
            f"| {found['encoder_sent'] / 1e3:.1f} / {model.encoder_sent / 1e3:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
