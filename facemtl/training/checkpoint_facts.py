"""The part of a checkpoint that is no tensor: plain JSON, so that reading it cannot run anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from facemtl.training.checkpoint_files import FACTS, CheckpointError, write_json

_FORMAT = 1


class Facts(NamedTuple):
    """What a checkpoint says in plain JSON."""

    step: int
    """Updates made so far."""
    given: dict[str, Any]
    """What the caller gave to be kept."""


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise :class:`TypeError` unless JSON can hold ``facts`` and gives them back, but for tuples."""
    _check(facts, "facts")


def write_facts(unfinished: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Write ``facts.json``."""
    whole = {"format": _FORMAT, "step": step, "torch": torch.__version__, "facts": facts}
    write_json(unfinished / FACTS, whole)


def read_facts(folder: Path) -> Facts:
    """Read ``facts.json``, whose checksum was compared before.

    Raises:
        CheckpointError: If it is of a format that is not known here.
    """
    try:
        content = json.loads((folder / FACTS).read_bytes())
        known, facts = content["format"] == _FORMAT, Facts(content["step"], content["facts"])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"CheckpointFolder: {str(folder / FACTS)!r} is not a checkpoint's: {error!r}.") from error
    if not known:
        raise CheckpointError(
            f"CheckpointFolder: {str(folder)!r} must have format {_FORMAT}, got {content['format']!r}. "
            "Use the version of facemtl that wrote it."
        )
    return facts


def _check(value: object, place: str) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"CheckpointFolder.save: keys in '{place}' must be texts, got {key!r}.")
            _check(entry, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            _check(entry, f"{place}[{index}]")
    elif not (value is None or isinstance(value, str | int | float)):
        raise TypeError(
            f"CheckpointFolder.save: '{place}' must be what JSON can hold, got {type(value).__name__}. "
            "Turn it into numbers, texts, lists or dicts; tensors belong into the state."
        )
