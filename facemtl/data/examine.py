"""One photograph, read and searched for faces: what a worker process does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from facemtl.alignment.detection import Detections, FaceDetector, arrange_landmarks, select_faces
from facemtl.data.align_settings import AlignSettings
from facemtl.data.landmark_lists import ListedFace
from facemtl.data.photographs import PhotographError, read_photograph

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Refusal = tuple[str, str]
"""Reason, in words that are the same for the same fault, and detail."""


class PhotographTask(NamedTuple):
    """A photograph to examine."""

    number: int
    """Its number in the job."""

    path: str
    """The file."""

    listed: tuple[ListedFace, ...] | None = None
    """Its faces, where a landmark list names them; None where they are to be detected."""


class Face(NamedTuple):
    """A face of a photograph, in plain numbers that travel between processes."""

    landmarks: tuple[tuple[float, float], ...]
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    label: str | None = None


class Examined(NamedTuple):
    """A photograph and its faces, or why it has none."""

    pixels: Array | None
    """``(3, height, width)`` uint8; tensors would travel as open files, which a dying process loses."""

    faces: list[Face]
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Examiner:
    """Reads photographs and finds their faces. Travels to worker processes with its detector.

    Args:
        settings: Which faces count.
        detector: Finds faces here; None leaves that to the caller (a detector on a GPU).
    """

    settings: AlignSettings
    detector: FaceDetector | None

    def __call__(self) -> Callable[[PhotographTask], Examined]:
        """Prepare a worker."""
        return self.examine

    def examine(self, task: PhotographTask) -> Examined:
        """Read a photograph; whatever is wrong with it becomes a refusal."""
        try:
            photograph = read_photograph(task.path, max_pixels=self.settings.max_pixels, strict=self.settings.strict)
        except PhotographError as error:
            return refused(error.reason, error.detail)
        if task.listed is not None:
            return _examine_listed(photograph, task.listed)
        pixels = photograph.numpy()
        if self.detector is None:
            return Examined(pixels, [])
        return find_faces(photograph, pixels, self.detector, self.settings)


def refused(reason: str, detail: str) -> Examined:
    """A photograph that gives no crop."""
    return Examined(None, [], (reason, detail))


def find_faces(photograph: Tensor, pixels: Array, detector: FaceDetector, settings: AlignSettings) -> Examined:
    """Search one photograph; what its detector stumbles on becomes a refusal.

    One at a time on a GPU too: floats differ between batches of other sizes, and a job that is continued must end in
    the same files.

    Args:
        photograph: Where the detector wants it.
        pixels: The same for the way back.
        detector: A detector of anyone's.
        settings: Which faces count.
    """
    try:
        found = detector.detect([photograph])
    except MemoryError:
        return refused("does not fit in memory", "")
    except Exception as error:  # a detector of anyone's, on a picture of anyone's
        return refused("the detector failed", f"{type(error).__name__}: {error}"[:200])
    return _choose_faces(pixels, found, landmark_order=detector.landmark_order, settings=settings)


def _choose_faces(
    photograph: Array, found: Detections, *, landmark_order: tuple[str, ...], settings: AlignSettings
) -> Examined:
    """Keep the faces of one photograph that count, its landmarks in facemtl's order."""
    found = Detections(*(column.cpu() for column in found))
    large = (found.boxes[:, 2:] - found.boxes[:, :2]).amin(-1) >= settings.min_face_size
    counted = (large & (found.scores >= settings.min_score)).nonzero().flatten()
    if not len(counted):
        detail = f"{len(large)} smaller or less sure than wanted" if len(large) else ""
        return refused("no face found", detail)
    if settings.policy == "error" and len(counted) > 1:
        return refused("several faces", f"{len(counted)}")
    found = Detections(*(column[counted] for column in found))
    found = found._replace(
        image_index=torch.zeros_like(found.image_index),
        landmarks=arrange_landmarks(found.landmarks, order=landmark_order),
    )
    height, width = photograph.shape[1:]
    found = select_faces(found, [(height, width)], policy=settings.policy)
    faces = [
        Face(tuple((x, y) for x, y in landmarks), (left, top, right, bottom), score)
        for landmarks, (left, top, right, bottom), score in zip(
            found.landmarks.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True
        )
    ]
    return Examined(photograph, faces)


def _examine_listed(photograph: Tensor, listed: tuple[ListedFace, ...]) -> Examined:
    """Take the faces from the landmark list; landmarks of another picture lie outside this one."""
    height, width = photograph.shape[1:]
    faces = [Face(face.landmarks, face.box, face.score, face.label) for face in listed if face.landmarks is not None]
    if not faces:
        return refused("no landmarks in the list", "")
    inside = [face for face in faces if any(_is_inside(x, y, height, width) for x, y in face.landmarks)]
    if not inside:
        return refused("landmarks lie outside the photograph", f"{width} x {height} pixels")
    return Examined(photograph.numpy(), inside)


def _is_inside(x: float, y: float, height: int, width: int) -> bool:
    """Values that are not finite are for the aligner to report."""
    return not (math.isfinite(x) and math.isfinite(y)) or (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5)
