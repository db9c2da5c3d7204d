"""How fast and how large is a training step of the lean CosFace head?

Forward and backward at batch 512, dimension 512, float32, one thread, against the plain head (normalise, product,
margin on the target in place, `F.cross_entropy`: as lean as autograd lets it be) and pytorch-metric-learning's
CosFaceLoss.
Memory is the peak beyond what is live before the step and beyond the weight's own gradient.

    python benchmarks/margin_head.py [--identities 10000 85000 360000] [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _timing import MEGABYTE, compare, peak_memory, peak_resident
from torch import Tensor
from torch.nn import functional as F

from facemtl.heads.margin import CosFace

BATCH, DIMENSION = 512, 512


def plain_loss(embeddings: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """CosFace as it is usually written, without one-hot labels."""
    logits = F.linear(64.0 * F.normalize(embeddings), F.normalize(weight))
    margins = torch.full_like(labels, 1, dtype=logits.dtype).unsqueeze(1) * (-64.0 * 0.35)
    return F.cross_entropy(logits.scatter_add_(1, labels.unsqueeze(1), margins), labels)


def step(loss: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor, weight: Tensor) -> None:
    """One forward and backward pass; the gradients are dropped first, as ``zero_grad`` does."""
    embeddings.grad = weight.grad = None
    loss(embeddings, labels).backward()


def extra_memory(run: Callable[[], None], weight: Tensor) -> tuple[float, float]:
    """Megabytes beyond the weight's own gradient, by torch's allocator and by the operating system."""
    own = weight.numel() * weight.element_size()
    results = []
    for measure in (peak_memory, peak_resident):
        run()
        weight.grad = None
        results.append((measure(run) - own) / MEGABYTE)
    return results[0], results[1]


def measure(identities: int, rounds: int, others: bool) -> None:
    """Print one row of the table."""
    generator = torch.Generator().manual_seed(identities)
    head = CosFace(DIMENSION, identities, lean=True)
    embeddings = torch.randn(BATCH, DIMENSION, generator=generator).requires_grad_()
    labels = torch.randint(identities, (BATCH,), generator=generator)

    def lean() -> None:
        step(head, embeddings, labels, head.weight)

    def plain() -> None:
        step(lambda e, y: plain_loss(e, head.weight, y), embeddings, labels, head.weight)

    lean_memory, plain_memory = extra_memory(lean, head.weight), extra_memory(plain, head.weight)
    row = [str(compare(plain, lean, rounds=rounds))]
    if others:
        from pytorch_metric_learning.losses import CosFaceLoss

        rival = CosFaceLoss(identities, DIMENSION, margin=0.35, scale=64.0)
        row.append(str(compare(plain, lambda: step(rival, embeddings, labels, rival.W), rounds=max(3, rounds // 2))))
    memory = " | ".join(f"{a:.1f} / {b:.1f}" for a, b in (lean_memory, plain_memory))
    print(f"| {identities:,} | {memory} | {' | '.join(row)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, nargs="+", default=[10_000, 85_000, 360_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="leave pytorch-metric-learning out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {BATCH} x identities x {DIMENSION}, float32")
    print("Memory is in MB beyond the weight's gradient: torch's allocator / resident.")
    rival = "" if options.alone else " pytorch-metric-learning against plain |"
    print(f"| identities | lean | plain | lean against plain |{rival}")
    for identities in options.identities:
        measure(identities, options.rounds, not options.alone)


if __name__ == "__main__":
    main()
