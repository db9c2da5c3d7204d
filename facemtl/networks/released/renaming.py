"""Map a foreign state dict onto a module of ours, and say everything that does not fit in one error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class ReleasedFormat:
    r"""How one foreign code base names the weights of one network.

    Attributes:
        name: Whose format it is, for messages.
        rules: Pairs of a regular expression that matches a whole foreign key and the replacement that makes it ours
            (``\1`` is the first bracket). The first rule that matches serves.
        ignored: Regular expressions of foreign keys that carry nothing of ours (a class weight, a constant table).
        convert: Optional last step on the renamed tensors, for values that are stored otherwise (a dense filter bank).
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    convert: Callable[[nn.Module, StateDict], StateDict] | None = None

    def rename(self, state: Mapping[str, Tensor]) -> tuple[StateDict, list[str]]:
        """Return the tensors under our names, and the foreign keys that no rule matches."""
        renamed: StateDict = {}
        unknown: list[str] = []
        for key, tensor in state.items():
            if any(re.fullmatch(pattern, key) for pattern in self.ignored):
                continue
            new_key = next(
                (match.expand(new) for pattern, new in self.rules if (match := re.fullmatch(pattern, key))), None
            )
            if new_key is None:
                unknown.append(key)
            else:
                renamed[new_key] = tensor
        return renamed, unknown


class ReleasedWeightsError(ValueError):
    """A foreign state dict does not fit: the message lists every unknown, missing and misshapen key."""


def load_released(module: nn.Module, state: Mapping[str, Tensor], source: ReleasedFormat) -> None:
    """Load the foreign ``state`` into ``module``, wholly or not at all.

    Args:
        module: The network or block of ours.
        state: The foreign state dict; the prefixes ``module.`` and ``_orig_mod.`` that wrappers leave are stripped.
        source: The foreign format.

    Raises:
        ReleasedWeightsError: If any key is unknown, missing or of the wrong shape; ``module`` is then unchanged.
    """
    renamed, unknown = source.rename({strip_wrappers(key): tensor for key, tensor in state.items()})
    if source.convert is not None:
        renamed = source.convert(module, renamed)
    own = module.state_dict()
    # Checkpoints of before PyTorch 0.4.1 count no batches. The count matters only to norms with momentum=None, which no
    # network here has.
    counters = [key for key in own if key.endswith("num_batches_tracked") and key not in renamed]
    renamed = renamed | {key: torch.tensor(0) for key in counters}
    problems = [f"unknown: {key}" for key in unknown]
    problems += [f"unknown: {key} (renamed from a released key)" for key in renamed if key not in own]
    problems += [f"missing: {key} {tuple(own[key].shape)}" for key in own if key not in renamed]
    problems += [
        f"misshapen: {key} wanted {tuple(own[key].shape)}, got {tuple(renamed[key].shape)}"
        for key in own
        if key in renamed and renamed[key].shape != own[key].shape
    ]
    if problems:
        raise ReleasedWeightsError(
            f"{type(module).__name__}: the state dict does not fit {source.name} "
            f"({len(problems)} problems):\n  " + "\n  ".join(problems)
        )
    module.load_state_dict(renamed)


def strip_wrappers(key: str) -> str:
    """Remove the prefixes that DistributedDataParallel and torch.compile put before each key."""
    return re.sub(r"^(?:module\.|_orig_mod\.)+", "", key)
