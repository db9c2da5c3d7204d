"""The faces that a run learns from, and the people that it is judged on and never sees."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facemtl.data.broken_images import OnBroken
from facemtl.data.bundled import BUNDLED_FOLDER
from facemtl.data.datasets import FaceDataset
from facemtl.data.encoded_faces import EncodedFaces
from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.manifest import Manifest, read_manifest
from facemtl.data.random_words import random_words
from facemtl.data.record_dataset import RecordDataset
from facemtl.data.record_subset import RecordSubset
from facemtl.data.records import RecordFile

_PURPOSE = 40


@dataclass(frozen=True, kw_only=True)
class TrainingFaces:
    """Faces to learn from, and faces of other people to be judged on."""

    training: JoinedFaces
    """Faces of known people; identities count from 0."""
    held_out: JoinedFaces | None
    """Faces of the people held out, identities counted anew; None if nobody is."""
    identity_names: tuple[str, ...]
    """Who each identity to learn from is; with several sources each name begins with the number of its source."""
    nameless: int
    """Faces left out because nobody said who they are."""

    @property
    def fingerprint(self) -> int:
        """CRC-32 of who is who and how old among the faces to learn from; a run resumes on the same or not at all."""
        columns = self.training.columns
        people = zlib.crc32(np.ascontiguousarray(columns.identities, dtype=np.int64).tobytes())
        return zlib.crc32(np.ascontiguousarray(columns.ages, dtype=np.float32).tobytes(), people)


def open_training_faces(
    sources: Sequence[str | Path] = (),
    *,
    held_out_people: int = 0,
    image_size: int = 112,
    seed: int = 0,
    on_broken: OnBroken = "skip",
    broken_report: str | Path | None = None,
) -> TrainingFaces:
    """Open manifests and record files, hold people out, and join the rest into one data set.

    Args:
        sources: Manifests (label lines, ``.csv``, ``.parquet``) and record files (``.rec``); the bundled synthetic
            faces if there is none. Identities of two sources are different people.
        held_out_people: How many people to keep apart, drawn from all sources alike by ``seed``; all their faces go
            with them.
        image_size: Side of the faces in pixels; images of another size are scaled.
        seed: Of the draw.
        on_broken: ``"skip"`` lets another face stand in for a broken image, ``"raise"`` stops.
        broken_report: File that gets a line for each broken image.

    Raises:
        ValueError: If fewer than two people would be left, or ``held_out_people`` is negative.
        ManifestError, RecordError: If a source cannot be read.

    Example:
        >>> faces = open_training_faces(held_out_people=16)
        >>> faces.training.num_identities, faces.held_out.num_identities, len(faces.training)
        (240, 16, 1920)
    """
    tables = [_open(Path(source)) for source in sources] or [
        read_manifest(BUNDLED_FOLDER / "manifest.csv", check_files=False)
    ]
    people = [np.unique(table.identities[table.identities >= 0]) for table in tables]
    shares = _drawn_apart([len(own) for own in people], held_out_people, seed)
    options: dict[str, Any] = {
        "size": (image_size, image_size),
        "resize": True,
        "on_broken": on_broken,
        "broken_report": broken_report,
    }
    learnt, judged, names = list[EncodedFaces](), list[EncodedFaces](), list[str]()
    for number, (table, own, share) in enumerate(zip(tables, people, shares, strict=True)):
        held = np.isin(table.identities, own[share])
        to_learn, to_judge = _part(table, (table.identities >= 0) & ~held, options), _part(table, held, options)
        prefix = f"{number}/" if len(tables) > 1 else ""
        names += [prefix + name for name in _names(to_learn)]
        learnt += [to_learn] if to_learn is not None else []
        judged += [to_judge] if to_judge is not None else []
    return TrainingFaces(
        training=JoinedFaces(learnt),
        held_out=JoinedFaces(judged) if judged else None,
        identity_names=tuple(names),
        nameless=sum(int((table.identities < 0).sum()) for table in tables),
    )


def _drawn_apart(people: Sequence[int], held_out: int, seed: int) -> list[npt.NDArray[np.bool_]]:
    """For each source, which of its people are held out."""
    total = sum(people)
    if total < 2:
        raise ValueError(
            f"open_training_faces: 'sources' must show at least two people whose identity is known, got {total}. Faces "
            "without an identity teach no recognition."
        )
    if not 0 <= held_out <= total - 2:
        raise ValueError(
            f"open_training_faces: 'held_out_people' must lie in [0, {total - 2}], so that two of the {total} people "
            f"are left to learn from, got {held_out}."
        )
    apart = np.zeros(total, bool)
    words = random_words(seed, (_PURPOSE, 0, 0), count=total)
    apart[np.argsort(words, kind="stable")[:held_out]] = True
    return np.split(apart, np.cumsum(people)[:-1])


def _part(table: Manifest | RecordFile, mask: npt.NDArray[np.bool_], options: Mapping[str, Any]) -> EncodedFaces | None:
    """The faces of a source where ``mask`` is true; None if there are none."""
    places = np.flatnonzero(mask)
    if not len(places):
        return None
    if isinstance(table, Manifest):
        return FaceDataset(table.select(places), **options)
    return RecordDataset(RecordSubset(table, places), **options)


def _names(faces: EncodedFaces | None) -> list[str]:
    """Names of the people of a part, in the order of their numbers."""
    if isinstance(faces, FaceDataset) and isinstance(faces.manifest, Manifest):
        return list(faces.manifest.identity_names)
    if isinstance(faces, RecordDataset) and isinstance(faces.records, RecordSubset):
        return [str(number) for number in faces.records.identity_numbers.tolist()]
    return []


def _open(path: Path) -> Manifest | RecordFile:
    return RecordFile(path) if path.suffix.lower() == ".rec" else read_manifest(path)
