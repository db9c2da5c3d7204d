r"""How much faster is a training step, and how much less memory does it take, than the released arrangement?

Full steps of `paper2021`, backward passes and optimizers included, on 112×112 faces, against a plain version with the
masked identity conditional module, a dense CosFace head and the released arrangement (_released_step.py). All sides
take turns in one process; a ratio is the median over the rounds [lowest, highest]. On a CPU with one thread the
process's own clock is read, which leaves out the time in which others had the core.

    python benchmarks/step.py                                              IR-50, width 64, batch 4 on a CPU, minutes
    python benchmarks/step.py --depth 18 --width 16 --batch 2 --rounds 3   a quick look
    python benchmarks/step.py --device cuda                                batch 64, and the rate of IR-50 recognition

By counting what to expect of one thread in float32 (GFLOP of one image forwards: encoder 12.6, generator 10.4, of which
masked conditions are 4.8, discriminator 1.0; a backward pass takes as much again for the gradients of the inputs and as
much for those of the weights):

    synthesis          encodings  encoder forwards, back  generator  discriminator        sum  expected
    released                   3    37.8 + 25.2           31.2       8 to 9        102 to 103
    released, lean             2    25.2 + 25.2           31.2       8 to 9                90   1.0x
      no gradient of frozen weights 25.2 + 12.6           31.2       8                     76   1.2x
      sliced conditions             25.2 + 12.6           17         8                     62   1.4x   = ours
      stored source encodings       12.6 + 12.6           17         8                     50   1.8x   = ours, stored
    joint: 37.8 of recognition on top of each                  128 -> 100 lean, 141 -> 100            1.25x, 1.4x

The column "GFLOP" is torch's own count of the step as it ran (100.6, 88.0, 60.8 and 48.2 for the rows of synthesis that
run); it does not see the sliced conditions (0.4). Optimizers, norms and activations are not in it either: a masked bank
has five times as many weights to update. The sums above, which are those that the targets were set by, are of the lean
form, so ratios are given against both.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._our_step import OurStep
from benchmarks._released_step import DenseCosFace, ReleasedStep, masked_copy
from benchmarks._step_faces import some_faces
from benchmarks._timing import MEGABYTE, peak_memory, seconds
from facemtl.heads.margin import CosFace
from facemtl.networks.iresnet import IRResNet
from facemtl.networks.mtlface import MTLFace
from facemtl.training.encoding_store import EncodingStore
from facemtl.training.frozen import frozen_recogniser
from facemtl.training.parameter_groups import weight_decay_groups

DIMENSION = 512


Step = OurStep | ReleasedStep


def steps_of(options: argparse.Namespace, *, joint: bool) -> dict[str, Step]:
    """Name and step of each side; the first two are the baselines."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    dataset, faces = some_faces(options.batch, options.identities, device)
    build = functools.partial(MTLFace.paper2021, depth=options.depth, width=options.width, device=device)
    model = build(embedding_dimension=DIMENSION)
    released = masked_copy(model, build(embedding_dimension=DIMENSION))
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    faces_last = faces.channels_last()
    if joint:
        dense = DenseCosFace(DIMENSION, options.identities).to(device)
        head, head_last = (CosFace(DIMENSION, options.identities, device=device) for _ in range(2))
        table: dict[str, Step] = {
            f"released, {count} encodings": ReleasedStep(released, faces, head=dense, encodings=count)
            for count in (3, 2)
        }
        table["ours"] = OurStep(model, faces, head=head)
        table["ours, channels_last, fused"] = OurStep(last, faces_last, head=head_last, fused=True)
        if options.bfloat16:
            low = OurStep(last, faces_last, head=head_last, low_precision=True, fused=True)
            table["ours, bfloat16, channels_last, fused"] = low
        return table

    def stored(recogniser: MTLFace, low_precision: bool = False) -> EncodingStore:
        autocast = torch.autocast(device.type, torch.bfloat16) if low_precision else nullcontext()
        with autocast:
            return EncodingStore(recogniser, dataset, limit_bytes=2**34, batch_size=options.batch, device=device)

    folded, folded_last = frozen_recogniser(model), frozen_recogniser(last)
    table = {f"released, {count} encodings": ReleasedStep(released, faces, encodings=count) for count in (3, 2)}
    table |= {
        "ours": OurStep(model, faces),
        "ours, norms folded": OurStep(model, faces, recogniser=folded),
        "ours, stored": OurStep(model, faces, store=stored(model)),
        "ours, folded, stored": OurStep(model, faces, recogniser=folded, store=stored(folded)),
        "the same, channels_last, fused": OurStep(
            last, faces_last, recogniser=folded_last, store=stored(folded_last), fused=True
        ),
    }
    if options.bfloat16:
        table["the same, bfloat16, channels_last, fused"] = OurStep(
            last,
            faces_last,
            recogniser=folded_last,
            store=stored(folded_last, low_precision=True),
            low_precision=True,
            fused=True,
        )
    return table


def race(steps: dict[str, Step], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each side in each round; in each, another side begins."""
    cuda = options.device == "cuda"

    def timed(step: Step) -> Callable[[], None]:
        def run() -> None:
            step()
            if cuda:
                torch.cuda.synchronize()

        return run

    clock = time.process_time if not cuda and options.threads == 1 else time.perf_counter
    runs = [(name, timed(step)) for name, step in steps.items()]
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds):
        for place in range(len(runs)):
            name, run = runs[(number + place) % len(runs)]
            times[name].append(seconds(run, clock))
    return times


def peak_of(step: Step) -> float:
    """Peak in MB beyond weights and optimizers, gradients included."""
    for module in step.modules():
        module.zero_grad()
    if not step.faces.images.is_cuda:
        return peak_memory(step) / MEGABYTE
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return (torch.cuda.max_memory_allocated() - before) / MEGABYTE


def gflop_of(step: Callable[[], object], images: int) -> float:
    """What torch counts of a step, for each image."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / images / 1e9


def measure(options: argparse.Namespace, *, joint: bool) -> None:
    """Print one table."""
    steps = steps_of(options, joint=joint)
    first = {name: float(step()) for name, step in steps.items()}  # also fills the optimizers
    released, ours = first["released, 3 encodings"], first["ours"]
    # Both have the same weights, so they must see the same faces; a joint step has learnt before, by another head.
    if not joint and abs(ours - released) > 0.02 * released:
        raise RuntimeError(f"step.py: the two sides must agree about the identity term, got {ours} and {released}.")
    flops = {name: gflop_of(step, options.batch) for name, step in steps.items()}
    memory = {name: peak_of(step) for name, step in steps.items()}
    times = race(steps, options)
    baselines = list(steps)[:2]
    print(f"\n{'Joint step' if joint else 'Step of synthesis'}")
    against = " | ".join(f"against {name}, counted | measured" for name in baselines)
    print(f"| side | GFLOP an image | {against} | images/s | peak MB |\n|{'---|' * 8}")
    for name in steps:
        ratios = [f"{flops[base] / flops[name]:.2f}× | {ratio_text(times[base], times[name])}" for base in baselines]
        rate = options.batch / statistics.median(times[name])
        print(f"| {name} | {flops[name]:.1f} | {' | '.join(ratios)} | {rate:.2f} | {memory[name]:.0f} |", flush=True)


def ratio_text(baseline: list[float], times: list[float]) -> str:
    ratios = [one / other for one, other in zip(baseline, times, strict=True)]
    return f"{statistics.median(ratios):.2f}× [{min(ratios):.2f}, {max(ratios):.2f}]"


def recognition_rate(options: argparse.Namespace) -> None:
    """Images per second of training a recogniser alone, and its share of what a large bfloat16 product reaches."""
    device = torch.device(options.device)
    last = torch.channels_last
    network = IRResNet(options.depth, width=options.width, device=device).to(memory_format=last).train()
    head = CosFace(DIMENSION, options.identities, device=device)
    groups = weight_decay_groups(network, head, weight_decay=5e-4)
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(options.batch, 3, 112, 112, device=device).contiguous(memory_format=last)
    labels = torch.randint(options.identities, (options.batch,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = head(network(images).embedding, labels)
        loss.backward()
        optimizer.step()

    def per_second(run: Callable[[], object], times: int) -> float:
        run()
        wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
        wait()
        start = time.perf_counter()
        for _ in range(times):
            run()
        wait()
        return times / (time.perf_counter() - start)

    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * side**3 * per_second(lambda: left @ right, 20)
    rate = options.batch * per_second(step, 20 if device.type == "cuda" else options.rounds)
    work = 1e9 * gflop_of(step, options.batch)
    print(f"\nIR-{options.depth} recognition, bfloat16, channels_last, batch {options.batch}: {rate:.1f} images/s")
    print(f"  {rate * work / 1e12:.2f} TFLOP/s = {rate * work / product:.0%} of a product's {product / 1e12:.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("synthesis", "joint", "recognition"), nargs="+")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, help="4 on a CPU, 64 on a GPU")
    parser.add_argument("--identities", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    options.batch = options.batch or (64 if options.device == "cuda" else 4)
    torch.set_num_threads(options.threads)
    device = torch.cuda.get_device_name() if options.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {device}, {options.threads} thread(s), batch {options.batch}, ", end="")
    print(f"IR-{options.depth} of width {options.width}, {options.identities:,} identities, {options.rounds} rounds")
    for part in options.part or ["synthesis", "joint", *(["recognition"] if options.device == "cuda" else [])]:
        if part == "recognition":
            recognition_rate(options)
        else:
            measure(options, joint=part == "joint")


if __name__ == "__main__":
    main()
