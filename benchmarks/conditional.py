"""Identity conditional module against the masked original: time of forward + backward, and peak memory.

    python benchmarks/conditional.py              # the table of benchmarks/RESULTS.md
    python benchmarks/conditional.py --rounds 3 --batches 8

Both sides run alternately in one process on one thread; a ratio is the median over the rounds. Memory is what torch's
CPU allocator holds at most during forward + backward (gradients of the parameters included) beyond the parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._timing import MEGABYTE, compare, peak_memory
from facemtl.layers.bank_state import to_dense_state
from facemtl.layers.conditional import IdentityConditionalModule
from tests.references.masked_conditional import MaskedConditionalModule


def step(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    def run() -> None:
        for parameter in module.parameters():
            parameter.grad = None
        forward().sum().backward()

    return run


def pair(preset: str) -> tuple[IdentityConditionalModule, MaskedConditionalModule]:
    """A module of ours and the masked original with the same weights."""
    ours = getattr(IdentityConditionalModule, preset)()
    kind = {"paper2021": {}, "code2021": {"norm": "batch", "activation": "prelu", "shared_fraction": 0.1}}[preset]
    masked = MaskedConditionalModule(**kind, output_norm=preset == "code2021")
    masked.load_state_dict(to_dense_state(ours))
    return ours, masked


def measure(preset: str, batch: int, *, every_group: bool, training: bool, rounds: int) -> str:
    """One row of the table."""
    torch.manual_seed(0)
    ours, masked = (module.train(training) for module in pair(preset))
    identity_map = torch.randn(batch, 512, 7, 7, requires_grad=True)
    groups = torch.randint(0, 7, (batch,))

    def run(module: nn.Module) -> Callable[[], None]:
        if every_group:
            return step(module, lambda: module.all_groups(identity_map))
        return step(module, lambda: module(identity_map, groups))

    time = compare(run(masked), run(ours), rounds=rounds)
    memory = [peak_of(module, run(module)) for module in (masked, ours)]
    cells = (
        f"{preset}, {'train' if training else 'eval'}",
        "all seven groups" if every_group else "one group a sample",
        str(batch),
        f"{time.baseline_seconds * 1e3:.0f}",
        f"{time.candidate_seconds * 1e3:.0f}",
        f"{time.ratio:.1f}× [{time.lowest:.1f}, {time.highest:.1f}]",
        *(f"{size:.0f}" for size in memory),
        f"{memory[0] / memory[1]:.1f}×",
    )
    return f"| {' | '.join(cells)} |"


def peak_of(module: nn.Module, run: Callable[[], None]) -> float:
    """Peak in MB of a step that has yet to allocate the gradients."""
    module.zero_grad(set_to_none=True)
    return peak_memory(run) / MEGABYTE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {
        name: [sum(p.numel() for p in module.parameters()) / 1e6 for module in pair(name)]
        for name in ("paper2021", "code2021")
    }
    for name, (ours, masked) in sizes.items():
        print(f"{name}: {ours:.2f} M parameters, masked original {masked:.2f} M")
    print(f"\ntorch {torch.__version__}, one thread, 512×7×7, float32, forward + backward")
    print("| preset | targets | batch | masked ms | ours ms | speed-up [range] | masked MB | ours MB | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in options.batches:
        for preset, training in (("paper2021", True), ("code2021", True), ("code2021", False)):
            for every_group in (False, True):
                if every_group and (batch > 8 or (preset == "code2021" and training)):
                    continue  # 448 masked samples take a minute; batch norm's training has no short cut
                print(
                    measure(preset, batch, every_group=every_group, training=training, rounds=options.rounds),
                    flush=True,
                )


if __name__ == "__main__":
    main()
