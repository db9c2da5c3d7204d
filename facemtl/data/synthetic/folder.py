"""A folder of synthetic faces: crops, manifest, licence and a sheet to look at."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from facemtl._core.whole_files import stage, write_if_changed
from facemtl.alignment.templates import LANDMARKS, FaceTemplate
from facemtl.data.encode import check_form, encode_image
from facemtl.data.photographs import read_photograph
from facemtl.data.progress import Progress
from facemtl.data.samples import FaceSample
from facemtl.data.synthetic.faces import SyntheticFaces

MANIFEST, SETTINGS, LICENCE, SHEET = "manifest.csv", "synthesis.json", "LICENSE.txt", "contact_sheet.png"
_TERMS = """These faces show nobody. facemtl rendered them from the head of MakeHuman's base mesh (CC0 1.0) and from
random numbers. Whoever made this folder may do with it what they like: facemtl's authors claim no rights in it
(CC0 1.0).
"""
_AT_ONCE = 16
_PEOPLE_ON_SHEET = 12


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """What a folder of synthetic faces holds."""

    num_identities: int = 256
    """People."""
    faces_per_identity: int = 8
    """Faces of each, spread over the ages."""
    ages: tuple[float, float] = (3.0, 83.0)
    """Youngest and oldest, in years."""
    seed: int = 0
    """Another seed is another population."""
    first_identity: int = 0
    """Number of the first person; folders whose numbers do not overlap share no person."""
    size: int = 112
    """Side of the crops."""
    image_format: Literal["jpg", "png", "webp"] = "jpg"
    """Of the crops."""
    quality: int = 92
    """Of jpg and webp, 1 to 100."""

    def __post_init__(self) -> None:
        # before a folder is claimed, as its first settings are its last
        check_form("SynthesisSettings", "image_format", self.image_format, self.quality)

    def faces(self) -> SyntheticFaces:
        """The data set of these settings."""
        return SyntheticFaces(
            self.num_identities,
            faces_per_identity=self.faces_per_identity,
            ages=self.ages,
            seed=self.seed,
            first_identity=self.first_identity,
            template=FaceTemplate.arcface(self.size),
        )

    def name(self, index: int) -> str:
        """The file of face number ``index``."""
        person, number = divmod(index, self.faces_per_identity)
        return f"{self.first_identity + person:06d}/{number:03d}.{self.image_format}"


class SynthesizedFolder(NamedTuple):
    """What was written."""

    faces: int
    """Crops in the folder."""
    new: int
    """Those that this very call rendered."""
    manifest: Path
    sheet: Path


def synthesize_folder(
    destination: str | Path, settings: SynthesisSettings | None = None, *, workers: int = 0, progress: bool = False
) -> SynthesizedFolder:
    """Render a folder of faces; what ``facemtl data synthesize`` does.

    The folder gets the crops, a folder for each person; ``manifest.csv`` with filename, identity, age, gender and the
    true landmarks, which :func:`facemtl.read_manifest` reads; the licence; and ``contact_sheet.png``. A call that was
    interrupted is continued by the same call. The same settings give the same files on the same machine and software;
    elsewhere pixels may differ a little.

    Args:
        destination: New, or made by the same settings.
        settings: How many people, faces, which ages, and the format.
        workers: Processes that render; 0 renders in this one.
        progress: Show a bar on the terminal (needs tqdm).

    Raises:
        ValueError: If the folder holds other files or other settings, or a setting is out of range.
        OSError: If the folder cannot be written.
    """
    destination = Path(destination)
    settings = settings if settings is not None else SynthesisSettings()
    if workers < 0:
        raise ValueError(f"synthesize_folder: 'workers' must be at least 0, got {workers}.")
    faces = settings.faces()
    _claim(destination, settings)
    missing = {index for index in range(len(faces)) if not (destination / settings.name(index)).is_file()}
    with Progress(len(faces), len(faces) - len(missing), progress) as bar:
        for sample in _rendered(faces, missing, workers):
            if sample.index not in missing:
                continue
            path = destination / settings.name(sample.index)
            path.parent.mkdir(exist_ok=True)
            data = encode_image(sample.image, settings.image_format, quality=settings.quality)
            os.replace(stage(data, staging=destination), path)
            bar.add(1)
    write_if_changed(destination / MANIFEST, _manifest(faces, settings), staging=destination)
    write_if_changed(destination / LICENCE, _TERMS.encode(), staging=destination)
    write_if_changed(destination / SHEET, _sheet(destination, settings), staging=destination)
    return SynthesizedFolder(len(faces), len(missing), destination / MANIFEST, destination / SHEET)


def _claim(destination: Path, settings: SynthesisSettings) -> None:
    """Make the folder ours, or see that it is of the same settings."""
    settings = replace(settings, ages=(float(settings.ages[0]), float(settings.ages[1])))  # 3 and 3.0 are one age
    record = json.dumps(asdict(settings), indent=2).encode() + b"\n"
    path = destination / SETTINGS
    if destination.exists() and not destination.is_dir():
        raise ValueError(f"synthesize_folder: 'destination' must be a folder, got the file {str(destination)!r}.")
    if path.is_file():
        if path.read_bytes() != record:
            raise ValueError(
                f"synthesize_folder: {str(destination)!r} holds faces of other settings, see {SETTINGS}. "
                "Choose another folder, or remove it."
            )
        return
    if destination.is_dir() and any(destination.iterdir()):
        raise ValueError(f"synthesize_folder: {str(destination)!r} holds other files. Choose an empty or a new folder.")
    destination.mkdir(parents=True, exist_ok=True)
    write_if_changed(path, record, staging=destination)


def _rendered(faces: SyntheticFaces, missing: set[int], workers: int) -> Iterator[FaceSample]:
    """The batches that missing faces are in, whole: in another company a face may differ by a level."""
    starts = sorted({index - index % _AT_ONCE for index in missing})
    parts = [list(range(start, min(start + _AT_ONCE, len(faces)))) for start in starts]
    loader = torch.utils.data.DataLoader(faces, batch_sampler=parts, num_workers=workers, collate_fn=list)
    for samples in loader:
        yield from samples


def _manifest(faces: SyntheticFaces, settings: SynthesisSettings) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    points = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
    writer.writerow(("filename", "identity", "age", "gender", *points))
    for start in range(0, len(faces), 256):
        indices = list(range(start, min(start + 256, len(faces))))
        labels = faces.labels(indices)
        who = labels.identities + settings.first_identity
        factors = faces.renderer.draw(who, labels.ages, labels.pictures)
        landmarks: Tensor = faces.renderer.landmarks(factors).flatten(1)
        genders = factors.traits.gender
        for row, index in enumerate(indices):
            age = f"{float(labels.ages[row]):.4g}"
            places = [f"{value:.2f}" for value in landmarks[row].tolist()]
            writer.writerow((settings.name(index), int(who[row]), age, int(genders[row]), *places))
    return text.getvalue().encode()


def _sheet(destination: Path, settings: SynthesisSettings) -> bytes:
    """The crops of the first people, a row each, young to old."""
    people, columns = min(_PEOPLE_ON_SHEET, settings.num_identities), min(12, settings.faces_per_identity)
    rows = [
        torch.stack(
            [
                read_photograph(destination / settings.name(person * settings.faces_per_identity + number))
                for number in range(columns)
            ]
        )
        for person in range(people)
    ]
    grid = torch.stack(rows).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)
    return encode_image(grid, "png")
