"""What there is to align, and what of it an earlier run has done."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facemtl.data.align_journal import GONE, AlignJournal, Outcome
from facemtl.data.crop_names import crop_stems
from facemtl.data.landmark_lists import ListedFace
from facemtl.data.listed_paths import stays_inside
from facemtl.data.photograph_list import Photograph, PhotographList

# The file may be readable or back the next time, without a change that its stamp shows.
_TRIED_AGAIN = ("cannot be read", "in the landmark list, but missing")


class PlannedPhotograph(NamedTuple):
    """A photograph, what its crops will be called and which faces a list gives it."""

    photograph: Photograph
    path: Path
    stem: str
    stamp: list[int]
    listed: tuple[ListedFace, ...] | None = None


def plan_alignment(
    found: PhotographList, *, suffix: str, listed: Sequence[ListedFace] | None, complete: bool
) -> list[PlannedPhotograph]:
    """Join photographs with the faces that a landmark list names.

    Args:
        found: The photographs.
        suffix: Ending of the crops' names.
        listed: Faces of a landmark list; None where faces are to be detected.
        complete: Whether photographs that only the landmark list names belong to the job: so for a folder; a manifest
            chooses for itself.
    """
    faces: dict[str, list[ListedFace]] = defaultdict(list)
    for face in listed or ():
        faces[face.name].append(face)
    photographs = list(found.photographs)
    if complete:
        known = {photograph.name for photograph in photographs}
        photographs += [_only_listed(found.root, name, of[0].line) for name, of in faces.items() if name not in known]
        photographs.sort(key=lambda photograph: photograph.name)
    stems = crop_stems([photograph.name for photograph in photographs], suffix=suffix)
    return [
        PlannedPhotograph(
            photograph,
            found.root / photograph.name,
            stem,
            _stamp(found.root / photograph.name),
            tuple(faces.get(photograph.name, ())) if listed is not None else None,
        )
        for photograph, stem in zip(photographs, stems, strict=True)
    ]


def done_before(planned: PlannedPhotograph, journal: AlignJournal) -> bool:
    """Whether the journal has this very photograph, under this name, and its crops are in their places."""
    outcome: Outcome | None = journal.outcomes.get(planned.photograph.name)
    if outcome is None or outcome.stamp != planned.stamp or outcome.stem != planned.stem:
        return False
    if outcome.refusal is None:
        return planned.photograph.refusal is None and journal.holds(outcome)
    if planned.photograph.refusal is not None:
        return tuple(outcome.refusal) == planned.photograph.refusal
    return outcome.refusal[0] not in _TRIED_AGAIN


def _only_listed(root: Path, name: str, line: int) -> Photograph:
    path = root / name
    if not os.path.lexists(path):
        return Photograph(name, refusal=("in the landmark list, but missing", f"line {line}"))
    inside = stays_inside(root.resolve(), path)
    return Photograph(name, refusal=None if inside else ("link leads out of the folder", f"line {line}"))


def _stamp(path: Path) -> list[int]:
    """Size and time of change in nanoseconds; the reader says what is wrong with a file that has none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return GONE
    return [status.st_size, status.st_mtime_ns]
