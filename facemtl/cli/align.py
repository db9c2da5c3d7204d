"""`facemtl align`: a folder of photographs to a folder of aligned faces."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from facemtl.alignment.detection import FaceDetector
from facemtl.alignment.templates import FaceTemplate
from facemtl.cli.messages import count, say
from facemtl.data.align_folder import align_folder
from facemtl.data.align_report import AlignmentReport
from facemtl.data.align_settings import AlignSettings
from facemtl.data.contact_sheet import draw_contact_sheets
from facemtl.data.devices import choose_device


@dataclass(kw_only=True)
class AlignCommand:
    """Align the faces of a folder of photographs into a folder of crops.

    DESTINATION gets the crops, manifest.csv (source, crop, box, score, landmarks, matrix, residual) and rejected.csv
    (source, reason). Interrupt it at any time: the same command continues.
    """

    continues: ClassVar[bool] = True

    source: Annotated[Path, tyro.conf.arg(metavar="SOURCE")]
    """Folder of photographs, or a manifest: CSV with a header, lines `id filename age gender`, or a name a line."""

    destination: Annotated[Path, tyro.conf.arg(metavar="DESTINATION")]
    """Folder for the crops: new, or made by the same command."""

    size: str = "112"
    """Side of a square crop, or HEIGHTxWIDTH, such as 112x96."""

    template: Literal["arcface", "ffhq", "insightface"] = "arcface"
    """Where the landmarks stand in the crop."""

    policy: Literal["largest", "most_central", "all", "error"] = "largest"
    """Which faces of a photograph to keep; error rejects photographs of several faces."""

    detector: Literal["mtcnn", "yunet"] = "mtcnn"
    """What finds the faces. mtcnn brings its weights and runs on the CPU; yunet runs on the device."""

    detector_weights: Path | None = None
    """File of yunet's weights; without it kornia downloads them."""

    landmarks: Path | None = None
    """Landmark list instead of a detector: CelebA's, insightface's .lst or IJB's."""

    root: Path | None = None
    """Folder that the names in a manifest are relative to; by default the manifest's."""

    min_face_size: float = 0.0
    """Pass over faces whose box has a side of fewer pixels."""

    min_score: float = 0.0
    """Pass over faces of which the detector is less sure, 0 to 1."""

    format: Literal["png", "jpg"] = "png"
    """Of the crops: png loses nothing, jpg takes half the room."""

    quality: int = 95
    """Of jpg crops, 1 to 100."""

    antialias: bool = True
    """Average the photograph's pixels where a face is larger than the crop."""

    strict: bool = True
    """Reject JPEGs that decode only with complaints: most are damaged."""

    max_pixels: int = 100_000_000
    """Reject photographs of more pixels."""

    workers: int | None = None
    """Processes that read photographs and find faces; by default one for each core."""

    batch_size: int = 32
    """Photographs that are warped together."""

    device: str = "auto"
    """Where to warp: auto (cuda, else mps, else cpu) or a name such as cuda:1."""

    restart: bool = False
    """Remove the crops of an earlier run, whose settings may differ, and begin anew."""

    preview: bool = False
    """Draw contact sheets too: photographs with landmarks beside their crops, contact_sheet_1.png and on."""

    preview_faces: int = 60
    """How many crops the contact sheets show."""

    preview_order: Literal["sample", "first"] = "sample"
    """Which: a sample of all, the same each time, or the first."""

    quiet: bool = False
    """No progress bar and no closing lines."""

    debug: bool = False
    """Show the traceback of an error (or set FACEMTL_DEBUG)."""

    def run(self) -> int:
        """Align, draw, report."""
        settings = AlignSettings(
            template=_template(self.template, self.size),
            policy=self.policy,
            min_score=self.min_score,
            min_face_size=self.min_face_size,
            image_format=self.format,
            quality=self.quality,
            antialias=self.antialias,
            max_pixels=self.max_pixels,
            strict=self.strict,
        )
        report = align_folder(
            self.source,
            self.destination,
            detector=self._detector() if self.landmarks is None else None,
            landmarks=self.landmarks,
            root=self.root,
            settings=settings,
            workers=self.workers,
            batch_size=self.batch_size,
            device=self.device,
            restart=self.restart,
            progress=not self.quiet,
        )
        sheets: list[Path] = []
        if self.preview:
            sheets = draw_contact_sheets(
                self.source if self.source.is_dir() else self.root or self.source.parent,
                self.destination,
                faces=self.preview_faces,
                order=self.preview_order,
                max_pixels=self.max_pixels,
            )
        if not self.quiet:
            for line in _closing_lines(report, sheets):
                say(line, sys.stdout)
        return 0 if report.crops else 1

    def _detector(self) -> FaceDetector:
        if self.detector == "mtcnn":
            from facemtl.alignment.mtcnn import MTCNNDetector

            if self.detector_weights is not None:
                raise ValueError("facemtl align: --detector-weights goes with --detector yunet; mtcnn has its own.")
            return MTCNNDetector()
        from facemtl.alignment.yunet import YuNetDetector

        return YuNetDetector(self.detector_weights, device=choose_device(self.device))


def _template(name: str, size: str) -> FaceTemplate:
    match = re.fullmatch(r"(\d+)(?:[xX×](\d+))?", size.strip())
    if match is None:
        raise ValueError(f"facemtl align: --size must be a number or HEIGHTxWIDTH, got {size!r}.")
    height, width = int(match[1]), int(match[2] or match[1])
    if name == "insightface":
        if height != width:
            raise ValueError(f"facemtl align: --template insightface is square, got --size {size}.")
        return FaceTemplate.insightface(height)
    return (FaceTemplate.arcface if name == "arcface" else FaceTemplate.ffhq)((height, width))


def _closing_lines(report: AlignmentReport, sheets: Sequence[Path]) -> list[str]:
    new = f" ({report.new} new)" if report.new < report.photographs else ""
    lines = [
        f"{count(report.photographs, 'photograph')}{new}, {count(report.crops, 'crop')}, {report.rejected} rejected."
    ]
    reasons = [f"{count} {reason}" for reason, count in list(report.reasons.items())[:3]]
    more = len(report.reasons) - len(reasons)
    if reasons:
        lines.append(
            f"Rejected: {', '.join(reasons)}{f' and {more} more reasons' if more else ''}; see {report.rejections}"
        )
    if report.passed_over:
        lines.append(f"{count(report.passed_over, 'other file')} passed over.")
    if report.left_behind:
        lines.append(f"{count(report.left_behind, 'crop')} of photographs that are gone left in place, unlisted.")
    lines.append(f"Crops: {report.manifest}")
    if sheets:
        lines.append(f"Look at: {sheets[0]}" + (f" to {sheets[-1].name}" if len(sheets) > 1 else ""))
    return lines
