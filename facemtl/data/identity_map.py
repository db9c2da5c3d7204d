"""Who each number is, kept beside a model so that its classes mean the same people tomorrow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from facemtl._core.whole_files import stage
from facemtl.data.packed_names import PackedNames

_SHOWN = 3


def save_identity_map(identity_names: Sequence[str], path: str | Path) -> None:
    """Write the ids of the identities 0 … N − 1 as a JSON list; the file appears whole or not at all.

    Args:
        identity_names: As a manifest has them, ``manifest.identity_names``.
        path: Where to.

    Raises:
        OSError: If the disk is full, say.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "identities.json"
        >>> save_identity_map(["Ada", "Emmy"], path)
        >>> check_identity_map(load_identity_map(path), ["Ada", "Emmy"])
    """
    path = Path(path)
    data = json.dumps(list(identity_names), indent=0).encode()
    os.replace(stage(data, staging=path.parent, durable=True), path)


def load_identity_map(path: str | Path) -> PackedNames:
    """Read what :func:`save_identity_map` wrote.

    Raises:
        ValueError: If the file cannot be read or is no list of different texts.
    """
    where = f"load_identity_map: {str(path)!r}"
    try:
        names = json.loads(Path(path).read_bytes())
        sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if sound and len(set(names)) == len(names):
            return PackedNames.pack(names)
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no list of identities: {error}.") from error
    raise ValueError(f"{where} must hold a list of different texts.")


def check_identity_map(expected: Sequence[str], found: Sequence[str]) -> None:
    """Refuse data whose identities are not those that a model was trained on.

    Args:
        expected: Ids that the model's classes have.
        found: Ids of the data.

    Raises:
        ValueError: With the first differences, unless both are the same ids in the same order.
    """
    ours, theirs = list(expected), list(found)
    if ours == theirs:
        return
    places = {name: number for number, name in enumerate(theirs)}
    known = set(ours)
    differences = {
        "missing": [name for name in ours if name not in places],
        "new": [name for name in theirs if name not in known],
        "with another number": [name for number, name in enumerate(ours) if places.get(name, number) != number],
    }
    parts = [
        f"{len(names)} {what} ({', '.join(map(repr, names[:_SHOWN]))}{', …' if len(names) > _SHOWN else ''})"
        for what, names in differences.items()
        if names
    ]
    raise ValueError(
        f"check_identity_map: expected the {len(ours)} identities that the model knows, got {len(theirs)}: "
        f"{'; '.join(parts)}. Use the manifest of its training, or train a new margin head."
    )
