"""A model in a folder: its weights, and a config from which it is built again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from facemtl._core.whole_files import stage

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_SUM = "weights_sha256"


class SavedModelError(ValueError):
    """A folder holds no model that can be loaded: a file is missing, damaged, or of another model."""


class SavedModel(NamedTuple):
    """What a folder holds of a model."""

    config: dict[str, Any]
    weights: dict[str, Tensor]


def write_model(folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write ``model.safetensors`` and ``config.json``; each appears whole or not at all, the config last.

    The config holds the weights' SHA-256: safetensors notices a file that was cut short, but not a flipped bit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: weight.detach().cpu().contiguous() for name, weight in weights.items()})
    text = json.dumps({**config, _SUM: hashlib.sha256(data).hexdigest()}, indent=2) + "\n"
    for name, content in ((WEIGHTS, data), (CONFIG, text.encode())):
        os.replace(stage(content, staging=folder, durable=True), folder / name)


def read_model(where: str, folder: str | Path) -> SavedModel:
    """Read what :func:`write_model` wrote.

    Raises:
        SavedModelError: If a file is missing, is not what its name says, or the weights are not those of the config.
    """
    folder = Path(folder)
    config = _read_config(where, folder / CONFIG)
    data = _read(where, folder / WEIGHTS)
    found = hashlib.sha256(data).hexdigest()
    if found != config.pop(_SUM, None):
        raise SavedModelError(
            f"{where}: {str(folder / WEIGHTS)!r} is not the file that {CONFIG} was written with (its SHA-256 is "
            f"{found}): it was damaged or replaced. Copy both files again."
        )
    try:
        return SavedModel(config, load(data))
    except SafetensorError as error:
        raise SavedModelError(f"{where}: {str(folder / WEIGHTS)!r} holds no weights: {error}.") from error


def _read_config(where: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(where, path))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SavedModelError(f"{where}: {str(path)!r} is no JSON: {error}.") from error
    if not isinstance(config, dict):
        raise SavedModelError(f"{where}: {str(path)!r} must hold an object, got {type(config).__name__}.")
    return config


def _read(where: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SavedModelError(f"{where}: {str(path)!r} cannot be read: {error.strerror or error}.") from error
