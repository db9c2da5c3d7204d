"""One entry for each public Module: how to build a small one and what to feed it.

Each module `tests/contract/cases_<block>.py` has a list ``CASES``; the contract tests gather them all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A small Module and inputs for it.

    Attributes:
        name: Unique; the class name, with a suffix where a class has several entries.
        make: Builds the Module; takes ``device`` and ``dtype`` keyword arguments if ``owns_parameters``.
        inputs: ``inputs(generator, batch)`` gives the positional arguments of ``forward``.
        compiler: Backend under which ``torch.compile(fullgraph=True)`` must equal eager; inductor takes a minute or
            more to make code for a whole network, whose units it compiles anyway, so these take ``aot_eager``.
        empty_batch: Whether a batch of 0 must give an output (of 0 rows, or a zero loss).
        factory_kwargs: Whether the constructor takes ``device`` and ``dtype``.
        gradients: Whether each parameter must get a gradient in a forward and backward pass.
        unused: Names of parameters that this input does not reach, each for a documented reason.
        autocast_tolerance: Largest relative error of bf16 autocast against float32, on the largest output value.
    """

    name: str
    make: Callable[..., nn.Module]
    inputs: Callable[[torch.Generator, int], tuple[Any, ...]]
    compiler: Literal["inductor", "aot_eager"] = "inductor"
    empty_batch: bool = True
    factory_kwargs: bool = True
    gradients: bool = True
    unused: frozenset[str] = field(default_factory=frozenset)
    autocast_tolerance: float = 0.1

    def __str__(self) -> str:
        return self.name


def all_cases() -> list[Case]:
    """Entries of every `tests/contract/cases_*.py`."""
    folder = Path(__file__).parent / "contract"
    cases: list[Case] = []
    for path in sorted(folder.glob("cases_*.py")):
        cases += importlib.import_module(f"tests.contract.{path.stem}").CASES
    return cases


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in a nest of tuples, lists and dicts."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors(value)


def total(output: Any) -> Tensor:
    """A scalar that depends on every floating-point output, with a weight for each element.

    The weights differ between outputs too: parts that sum to the input would otherwise have no gradient together.
    """
    result = torch.zeros(())
    for index, value in enumerate(tensors(output)):
        if value.is_floating_point():
            weight = torch.linspace(0.5, 1.5 + index, value.numel(), device=value.device, dtype=torch.float32).reshape(
                value.shape
            )
            result = result.to(value.device) + (value.float() * weight).sum()
    return result


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give ``module`` deterministic, non-trivial parameters and running statistics (zeros hide mistakes)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point() or tensor.is_meta:
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif name.endswith("running_mean"):
                tensor.copy_(0.1 * noise)
            elif tensor.dim() <= 1:
                tensor.add_(0.1 * noise)
    return module
