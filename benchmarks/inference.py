"""How much faster is a recogniser with its batch norms folded, and does it still say the same?

IR-50 on 112×112 faces, random weights and running statistics, one CPU thread. The baseline is the module as it is, in
eval mode, float32, torch's default memory format. Sides alternate in one process and one thread is timed by the
process's own clock, so that the ratios survive a busy machine. ``--compile`` adds torch.compile with frozen weights (a
minute or two).

    python benchmarks/inference.py [--batch 8] [--threads 1] [--rounds 7] [--compile]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from _timing import compare
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.networks.iresnet import IRResNet

CHANNELS_LAST = torch.channels_last


def recogniser() -> IRResNet:
    """An IR-50 whose norms do something: random scales, shifts and statistics."""
    torch.manual_seed(0)
    network = IRResNet(50).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
    images = torch.randn(32, 3, 112, 112)
    with torch.no_grad():  # statistics that fit, as training leaves them
        network.train()(images)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.momentum = None  # the plain mean over the batches that follow
                part.reset_running_stats()
        for _ in range(2):
            network(torch.randn(32, 3, 112, 112))
    return network.eval().requires_grad_(False)


def sides(network: IRResNet, compiled: bool) -> dict[str, tuple[nn.Module, torch.dtype, torch.memory_format]]:
    """What is compared with the network as it is: name, module, dtype and memory format of its images."""
    single, half, plain = torch.float32, torch.bfloat16, torch.contiguous_format
    folded = network.for_inference()
    folded_last = copy.deepcopy(folded).to(memory_format=CHANNELS_LAST)
    table: dict[str, tuple[nn.Module, torch.dtype, torch.memory_format]] = {
        "float32, channels_last": (copy.deepcopy(network).to(memory_format=CHANNELS_LAST), single, CHANNELS_LAST),
        "float32, folded": (folded, single, plain),
        "float32, folded, channels_last": (folded_last, single, CHANNELS_LAST),
        "bfloat16, channels_last": (copy.deepcopy(network).to(half, memory_format=CHANNELS_LAST), half, CHANNELS_LAST),
        "bfloat16, folded, channels_last": (
            copy.deepcopy(folded).to(half, memory_format=CHANNELS_LAST),
            half,
            CHANNELS_LAST,
        ),
    }
    if compiled:
        torch._inductor.config.freezing = True
        table["float32, folded, channels_last, compiled"] = (torch.compile(folded_last), single, CHANNELS_LAST)
    return table


def hardware() -> str:
    """What decides whether bfloat16 pays: the CPU's matrix instructions."""
    abilities = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX512_BF16": torch.cpu._is_avx512_bf16_supported()}
    return ", ".join(f"{name} {'yes' if present else 'no'}" for name, present in abilities.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = recogniser()
    images = torch.randn(options.batch, 3, 112, 112)
    print(f"IR-50, batch {options.batch}, {options.threads} thread(s), torch {torch.__version__}, {hardware()}\n")
    print("| side | speed against eager float32 | smallest cosine to float32 |")
    print("|---|---|---|")
    with torch.no_grad():
        want = network(images).embedding
        for name, (module, dtype, memory_format) in sides(network, options.compile).items():
            inputs = images.to(dtype, memory_format=memory_format)
            candidate: Callable[[], Tensor] = lambda module=module, inputs=inputs: module(inputs).embedding  # noqa: E731
            cosine = float(F.cosine_similarity(candidate().float(), want).min())
            clock = time.process_time if options.threads == 1 else time.perf_counter
            ratio = compare(lambda: network(images), candidate, rounds=options.rounds, clock=clock)
            print(f"| {name} | {ratio} | {cosine:.6f} |", flush=True)


if __name__ == "__main__":
    main()
