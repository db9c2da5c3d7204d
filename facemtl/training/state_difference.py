"""How a checkpoint and the state that it shall be read into disagree."""

from __future__ import annotations

from typing import NamedTuple

import torch

_SHOWN = 4


class SavedTensor(NamedTuple):
    """What a checkpoint says of a tensor before it is read."""

    shape: tuple[int, ...]
    """Of the whole, however many processes hold it."""
    dtype: torch.dtype
    """Of its elements."""

    @property
    def text(self) -> str:
        """Both in words, such as ``(10, 512) float32``."""
        return f"{self.shape} {str(self.dtype).removeprefix('torch.')}"


class Difference(NamedTuple):
    """Names, sorted; none if checkpoint and state have the same tensors."""

    missing: list[str]
    """In the state, not in the checkpoint."""
    unexpected: list[str]
    """In the checkpoint, not in the state."""
    unlike: list[str]
    """In both, of another shape or dtype, with what they are."""

    @property
    def text(self) -> str:
        """All three in words, a few names of each; empty without difference."""
        kinds = zip(("missing from it", "unexpected in it", "of another shape or dtype"), self, strict=True)
        return "; ".join(f"{kind}: {_few(names)}" for kind, names in kinds if names)


def _few(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
