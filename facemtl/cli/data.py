"""`facemtl data`: look at data sets, balance, pack and label them, and make some up."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from facemtl.cli.manifests import ManifestCommand
from facemtl.cli.messages import count, say
from facemtl.data.balance import balance_manifest
from facemtl.data.devices import choose_device
from facemtl.data.estimators import AgeReading, AttributeEstimator, MTLFaceEstimator, OnnxEstimator
from facemtl.data.label import label_manifest
from facemtl.data.pack_records import pack_records
from facemtl.data.progress import Progress
from facemtl.data.statistics import manifest_statistics
from facemtl.data.statistics_figure import draw_statistics
from facemtl.data.synthetic.folder import SynthesisSettings, synthesize_folder

_P: Any = tyro.conf.PositionalRequiredArgs


@dataclass(kw_only=True)
class StatsCommand(ManifestCommand):
    """Count faces by age and gender, and people by their number of faces: a table, and a PNG."""

    figure: Path | None = None
    """PNG to draw; by default MANIFEST's name with .png."""

    def run(self) -> int:
        """Count, print, draw."""
        statistics = manifest_statistics(self.read())
        say(statistics.table(), sys.stdout)
        figure = self.figure if self.figure is not None else self.manifest.with_suffix(".png")
        draw_statistics(statistics, figure, title=self.manifest.name)
        say(f"Look at: {figure}", sys.stdout)
        return 0


@dataclass(kw_only=True)
class BalanceCommand(ManifestCommand):
    """Choose a part that is balanced over age groups and genders, as the paper's SCAF is.

    Each age group gets equally many faces of each gender, and each person at least some.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="OUTPUT")]
    """Manifest to write: .csv, .parquet, or the paper's lines. Its names are relative to the same root."""

    max_faces: int | None = None
    """Most faces to choose; by default as many as balance allows."""

    min_faces_per_identity: int = 2
    """Leave out people with fewer."""

    seed: int = 0
    """Another seed chooses others."""

    on_empty: Literal["raise", "leave_out"] = "raise"
    """Age groups without a face of some gender: stop, or do without."""

    def run(self) -> int:
        """Choose and write."""
        manifest = self.read_for(self.output)
        subset = balance_manifest(
            manifest,
            min_faces_per_identity=self.min_faces_per_identity,
            max_faces=self.max_faces,
            seed=self.seed,
            on_empty=self.on_empty,
        )
        subset.manifest.save(self.output)
        say(manifest_statistics(subset.manifest).table(), sys.stdout)
        say(f"Manifest: {self.output}", sys.stdout)
        return 0


@dataclass(kw_only=True)
class RecordsCommand(ManifestCommand):
    """Pack the images of a manifest into a record file, as insightface's loaders read it.

    OUTPUT.idx, .crc and property come beside it. Interrupt it at any time: the same command continues.
    """

    continues: ClassVar[bool] = True

    output: Annotated[Path, tyro.conf.arg(metavar="OUTPUT")]
    """The .rec file; train.rec for insightface."""

    size: int | None = None
    """Scale images to this side; by default all must have the size of the first."""

    quality: int = 95
    """Of the JPEGs of images that were scaled."""

    labels: Literal["all", "identity"] = "all"
    """Labels of a record: identity, age and gender, or the identity alone."""

    on_broken: Literal["raise", "skip"] = "raise"
    """Images that cannot be read: stop, or leave them out."""

    overwrite: bool = False
    """Replace a file of this name."""

    quiet: bool = False
    """No progress bar."""

    def run(self) -> int:
        """Pack."""
        manifest = self.read_for(self.output)
        with Progress(len(manifest), 0, not self.quiet) as bar:
            packed = pack_records(
                manifest,
                self.output,
                size=None if self.size is None else (self.size, self.size),
                quality=self.quality,
                labels=self.labels,
                on_broken=self.on_broken,
                overwrite=self.overwrite,
                progress=lambda done, _: bar.add(done - bar.done),
            )
        for skipped in packed.skipped[:10]:
            say(f"Left out: {skipped.filename}: {skipped.problem.reason}")
        say(f"{count(packed.num_faces, 'face')} of {count(packed.num_identities, 'identity')}.", sys.stdout)
        say(f"Records: {packed.path}", sys.stdout)
        return 0


@dataclass(kw_only=True)
class LabelCommand(ManifestCommand):
    """Estimate the ages and genders that a manifest does not know, by a model.

    Estimates are no truth: a model that learns from them inherits their errors.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="OUTPUT")]
    """Manifest to write: .csv, .parquet, or the paper's lines."""

    model: Annotated[Path, tyro.conf.arg(metavar="MODEL")]
    """A folder that MTLFace.save_pretrained wrote, or an ONNX file."""

    reading: AgeReading = "years"
    """What the output of an ONNX file is: years, years / 100, logits or probabilities over years, or insightface's."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Of an ONNX file's input."""

    mean: float = 127.5
    """Subtracted from an ONNX file's pixels of 0 to 255."""

    std: float = 127.5
    """What they are divided by then."""

    input_size: tuple[int, int] | None = None
    """Height and width that faces are scaled to; by default those that an ONNX file declares, and 112 112."""

    age_output: str | None = None
    """Output of an ONNX file that ages are read from; by default the first."""

    gender_output: str | None = None
    """Output of an ONNX file with the scores of female and of male."""

    overwrite: bool = False
    """Estimate labels that are known, too."""

    batch_size: int = 64
    """Faces that are estimated together."""

    workers: int = 0
    """Processes that read images; 0 reads in this one."""

    device: str = "auto"
    """Where an MTLFace runs: auto (cuda, else mps, else cpu) or a name."""

    quiet: bool = False
    """No progress bar."""

    def run(self) -> int:
        """Estimate and write."""
        labelled = label_manifest(
            self.read_for(self.output),
            self._estimator(),
            batch_size=self.batch_size,
            workers=self.workers,
            overwrite=self.overwrite,
            progress=not self.quiet,
        )
        labelled.manifest.save(self.output)
        for broken in labelled.broken[:10]:
            say(f"Not labelled: {broken.name}: {broken.reason}")
        numbers = f"{count(labelled.num_ages, 'age')} and {count(labelled.num_genders, 'gender')} estimated"
        say(f"{numbers}, {count(len(labelled.broken), 'image')} not readable.", sys.stdout)
        say(f"Manifest: {self.output}", sys.stdout)
        return 0

    def _estimator(self) -> AttributeEstimator:
        if self.model.suffix.lower() != ".onnx":
            size = self.input_size if self.input_size is not None else (112, 112)
            return MTLFaceEstimator(self.model, input_size=size, device=choose_device(self.device))
        return OnnxEstimator(
            self.model,
            reading=self.reading,
            input_size=self.input_size,
            channel_order=self.channel_order,
            mean=self.mean,
            std=self.std,
            age_output=self.age_output,
            gender_output=self.gender_output,
        )


@dataclass(kw_only=True)
class SynthesizeCommand:
    """Render faces of people who do not exist, of known identity and age.

    DESTINATION gets the crops, manifest.csv with true labels and landmarks, a licence and a contact sheet. Interrupt it
    at any time: the same command continues.
    """

    continues: ClassVar[bool] = True

    destination: Annotated[Path, tyro.conf.arg(metavar="DESTINATION")]
    """Folder for the faces: new, or made by the same command."""

    identities: int = 256
    """How many people."""

    ages: int = 8
    """Faces of each, spread over the ages."""

    age_range: tuple[float, float] = (3.0, 83.0)
    """Youngest and oldest, in years."""

    seed: int = 0
    """Another seed is another population."""

    first_identity: int = 0
    """Number of the first person; facemtl's bundled faces are 0 to 255 of seed 0."""

    size: int = 112
    """Side of the crops."""

    format: Literal["jpg", "png", "webp"] = "jpg"
    """Of the crops."""

    quality: int = 92
    """Of jpg and webp, 1 to 100."""

    workers: int = 0
    """Processes that render; 0 renders in this one."""

    quiet: bool = False
    """No progress bar."""

    debug: bool = False
    """Show the traceback of an error (or set FACEMTL_DEBUG)."""

    def run(self) -> int:
        """Render."""
        settings = SynthesisSettings(
            num_identities=self.identities,
            faces_per_identity=self.ages,
            ages=self.age_range,
            seed=self.seed,
            first_identity=self.first_identity,
            size=self.size,
            image_format=self.format,
            quality=self.quality,
        )
        folder = synthesize_folder(self.destination, settings, workers=self.workers, progress=not self.quiet)
        new = "" if folder.new == folder.faces else f" ({folder.new} new)"
        say(f"{count(folder.faces, 'face')}{new} of {count(self.identities, 'person')}.", sys.stdout)
        say(f"Manifest: {folder.manifest}", sys.stdout)
        say(f"Look at: {folder.sheet}", sys.stdout)
        return 0


@dataclass(kw_only=True)
class DataCommand:
    """Data sets: count, balance, pack, label, and make up faces."""

    command: (
        Annotated[StatsCommand, _P, tyro.conf.subcommand("stats", prefix_name=False)]
        | Annotated[BalanceCommand, _P, tyro.conf.subcommand("balance", prefix_name=False)]
        | Annotated[RecordsCommand, _P, tyro.conf.subcommand("records", prefix_name=False)]
        | Annotated[LabelCommand, _P, tyro.conf.subcommand("label", prefix_name=False)]
        | Annotated[SynthesizeCommand, _P, tyro.conf.subcommand("synthesize", prefix_name=False)]
    )
