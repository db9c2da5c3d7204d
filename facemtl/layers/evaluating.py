"""Eval mode for as long as a block of code runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; each module back in its own mode after it.

    Args:
        *modules: Any modules.

    Example:
        >>> part = nn.Dropout()
        >>> with evaluating(part):
        ...     print(part.training)
        False
        >>> part.training
        True
    """
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
