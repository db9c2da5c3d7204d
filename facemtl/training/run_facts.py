"""What a checkpoint says of its run, and whether a run may go on from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facemtl.training.settings import TrainingSettings
from facemtl.training.training_faces import TrainingFaces

_MUST_AGREE = (
    "seed",
    "phases",
    "faces.image_size",
    "model.preset",
    "model.depth",
    "model.width",
    "model.embedding_dimension",
    "model.discriminator_preset",
    "recognition.global_batch",
    "synthesis.global_batch",
)


def plain(settings: Any) -> Any:
    """Settings as JSON has them: dataclasses are objects, tuples lists, paths texts.

    Example:
        >>> from facemtl.training.presets import quick
        >>> plain(quick())["recognition"]["milestones"]
        [300, 425]
    """
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    if isinstance(settings, tuple | list):
        return [plain(item) for item in settings]
    return str(settings) if isinstance(settings, Path) else settings


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings in one level, with dotted names.

    Example:
        >>> flat({"seed": 0, "model": {"depth": 18}})
        {'seed': 0, 'model.depth': 18}
    """
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def run_facts(settings: TrainingSettings, faces: TrainingFaces) -> dict[str, Any]:
    """What of a run must not change between a checkpoint and its resumption, and all its settings."""
    return {
        "settings": plain(settings),
        "people": faces.training.num_identities,
        "faces": len(faces.training),
        "labels_crc32": faces.fingerprint,
    }


def check_run(facts: Mapping[str, Any], mine: Mapping[str, Any], *, folder: Path) -> None:
    """Refuse a checkpoint of another run: other people, another model, another seed or global batch.

    Args:
        facts: Of the checkpoint.
        mine: Of this run, from :func:`run_facts`.
        folder: Of the checkpoint, for the message.

    Raises:
        ValueError: With every difference.
    """
    before, now = flat(facts.get("settings", {})), flat(mine["settings"])
    changed = [
        f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in _MUST_AGREE if before.get(name) != now[name]
    ]
    changed += [
        f"{name} was {facts.get(name)!r} and is {mine[name]!r}"
        for name in ("people", "faces", "labels_crc32")
        if facts.get(name) != mine[name]
    ]
    if changed:
        raise ValueError(
            f"check_run: the run in {str(folder)!r} must be this one, got another: {'; '.join(changed)}. Choose "
            "another output folder, or begin anew in this one with resume never."
        )
