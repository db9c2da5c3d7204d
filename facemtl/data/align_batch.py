"""A batch of examined photographs to crops on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from facemtl._core.whole_files import stage
from facemtl.alignment.detection import FaceDetector
from facemtl.alignment.similarity import LandmarkProblem
from facemtl.alignment.warp import FaceAligner
from facemtl.data.align_journal import AlignJournal, Crop, Outcome
from facemtl.data.align_plan import PlannedPhotograph
from facemtl.data.align_settings import AlignSettings
from facemtl.data.crop_names import crop_name
from facemtl.data.encode import encode_image
from facemtl.data.examine import Examined, Face, find_faces

Batch = Sequence[tuple[PlannedPhotograph, Examined]]


class BatchWriter:
    """Warps the faces of a batch of photographs at once and writes their crops.

    Args:
        journal: Of the destination.
        settings: How crops look.
        device: Where the warp runs.
        detector: A detector that runs on this device; None where faces are known already.
    """

    def __init__(
        self, journal: AlignJournal, settings: AlignSettings, device: torch.device, *, detector: FaceDetector | None
    ) -> None:
        self._journal, self._settings, self._device, self._detector = journal, settings, device, detector
        self._aligner = FaceAligner(settings.template, antialias=settings.antialias, output="uint8").to(device)

    def write(self, batch: Batch) -> None:
        """Write a batch: crops aside, then the journal, then each crop into its place."""
        photographs = [
            None if examined.pixels is None else torch.from_numpy(examined.pixels).to(self._device)
            for _, examined in batch
        ]
        if self._detector is not None:
            batch = self._detect(batch, photographs, self._detector)
        crops = self._align(batch, photographs)
        moves: list[tuple[Path, Path]] = []
        outcomes = []
        for number, (planned, examined) in enumerate(batch):
            kept: list[Crop] = []
            problem = examined.refusal
            for face, (pixels, matrix, fault, residual) in zip(examined.faces, crops[number], strict=True):
                if fault:
                    problem = (fault, "")
                    continue
                name = crop_name(planned.stem, len(kept), self._settings.suffix)
                data = encode_image(pixels, self._settings.image_format, quality=self._settings.quality, small=False)
                moves.append((stage(data, staging=self._journal.folder), self._journal.destination / name))
                kept.append(_crop(name, len(data), face, matrix, residual))
            refusal = list(problem or ("no face found", "")) if not kept else None
            outcomes.append(Outcome(planned.photograph.name, planned.stamp, planned.stem, kept, refusal))
        self._journal.append(outcomes)
        for folder in {place.parent for _, place in moves}:
            folder.mkdir(parents=True, exist_ok=True)
        for unfinished, place in moves:
            os.replace(unfinished, place)

    def _detect(self, batch: Batch, photographs: Sequence[Tensor | None], detector: FaceDetector) -> Batch:
        """Find the faces of those photographs that could be read."""
        results = []
        for (planned, examined), photograph in zip(batch, photographs, strict=True):
            if examined.pixels is not None and photograph is not None:
                examined = find_faces(photograph, examined.pixels, detector, self._settings)
            results.append((planned, examined))
        return results

    def _align(
        self, batch: Batch, photographs: Sequence[Tensor | None]
    ) -> list[list[tuple[Tensor, Tensor, str, float]]]:
        """For each photograph its faces' crops, matrices, faults ('' is none) and residuals."""
        faces = [face for _, examined in batch for face in examined.faces]
        owners = [number for number, (_, examined) in enumerate(batch) for _ in examined.faces]
        results: list[list[tuple[Tensor, Tensor, str, float]]] = [[] for _ in batch]
        if not faces:
            return results
        needed = sorted(set(owners))
        images = [photograph for number in needed if (photograph := photographs[number]) is not None]
        place = {number: at for at, number in enumerate(needed)}
        with torch.inference_mode():
            aligned = self._aligner(
                images,
                torch.tensor([face.landmarks for face in faces], dtype=torch.float32, device=self._device),
                image_index=torch.tensor([place[number] for number in owners], device=self._device),
            )
        problems = [LandmarkProblem(problem) for problem in aligned.problems.tolist()]
        for number, crop, matrix, problem, valid, residual in zip(
            owners,
            aligned.crops.cpu(),
            aligned.matrices.cpu(),
            problems,
            aligned.valid.tolist(),
            aligned.residuals.tolist(),
            strict=True,
        ):
            results[number].append((crop, matrix, "" if valid else problem.describe(), residual))
        return results


def _crop(name: str, num_bytes: int, face: Face, matrix: Tensor, residual: float) -> Crop:
    return Crop(
        name=name,
        num_bytes=num_bytes,
        landmarks=[[_number(x), _number(y)] for x, y in face.landmarks],
        matrix=[[_number(value) for value in row] for row in matrix.tolist()],
        residual=_number(residual),
        box=[_number(value) for value in face.box] if face.box is not None else None,
        score=_number(face.score) if face.score is not None else None,
        label=face.label,
    )


def _number(value: float) -> float:
    """Nine digits, which is all that float32 has."""
    return float(f"{value:.9g}")
