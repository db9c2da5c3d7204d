"""Random numbers of a step, all derived from the run's seed and the step: a checkpoint need not hold any state."""

from __future__ import annotations

import torch

from facemtl.data.random_words import LARGEST_SEED, random_words
from facemtl.data.samplers import whole_number

_STEPS, _GENERATORS = 41, 42  # the purposes of these random words, of which samplers and synthetic faces have others
_PHASES = 2**32


def seed_step(seed: int, step: int, rank: int, *, phase: int = 0) -> None:
    """Seed torch's own generators, on the CPU and on all GPUs, for what a process draws in a step (dropout masks).

    A run that goes on from a checkpoint draws what it would have drawn, and processes draw different numbers. The CPU's
    generator takes 32 bits of a seed, so two steps of a long run may share theirs, but no two that follow a rule.

    Args:
        seed: The run's, 0 to 2⁶⁴ − 1.
        step: Of the run, at least 0.
        rank: Of the process, at least 0.
        phase: Tells apart parts of a run that count the same steps; 0 to 2³² − 1.

    Raises:
        ValueError: If a number is out of its range.
        TypeError: If one is not whole.

    Example:
        >>> import torch
        >>> seed_step(0, 120, 3)
        >>> first = torch.rand(2)
        >>> seed_step(0, 120, 3)
        >>> bool((torch.rand(2) == first).all())
        True
    """
    torch.manual_seed(_word("seed_step", _STEPS, seed=seed, step=step, rank=rank, phase=phase))


def step_generator(seed: int, step: int, *, purpose: int, skip: int = 0) -> torch.Generator:
    """Return a CPU generator for what the faces of a step draw, independent of how they are spread over processes.

    The draws belong to the global batch: a process skips those of the faces before its own, and one process, two or
    eight draw the same number for the same face.

    Args:
        seed: The run's, 0 to 2⁶⁴ − 1.
        step: Of the run, at least 0.
        purpose: Tells apart what is drawn in one step, at least 0.
        skip: Uniform float32 draws to leave out: rank × faces of a process, if each face takes one.

    Raises:
        ValueError: If a number is out of its range.
        TypeError: If one is not whole.

    Example:
        >>> import torch
        >>> both = torch.rand(4, generator=step_generator(0, 120, purpose=1))
        >>> second = torch.rand(2, generator=step_generator(0, 120, purpose=1, skip=2))
        >>> bool((second == both[2:]).all())
        True
    """
    skip = whole_number("step_generator", "skip", skip, lowest=0)
    generator = torch.Generator()
    generator.manual_seed(_word("step_generator", _GENERATORS, seed=seed, step=step, purpose=purpose))
    if skip:
        torch.rand(skip, generator=generator)
    return generator


def _word(where: str, stream: int, *, seed: int, **numbers: int) -> int:
    """64 random bits that are a pure function of all numbers."""
    largest = {"phase": _PHASES - 1}
    checked = []
    for name, value in {"seed": seed, **numbers}.items():
        whole, limit = whole_number(where, name, value, lowest=0), largest.get(name, LARGEST_SEED)
        if whole > limit:
            raise ValueError(f"{where}: '{name}' must be at most {limit}, got {value}.")
        checked.append(whole)
    seed, first, second, *phase = checked
    return int(random_words(seed, (stream, first, second), start=4 * sum(phase), count=1)[0])
