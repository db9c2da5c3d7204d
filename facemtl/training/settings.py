"""What a run of MTLFace is told: every number of it, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Phases = Literal["recognition", "synthesis", "recognition-then-synthesis", "joint"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class FacesSettings:
    """Which faces a run learns from."""

    sources: tuple[Path, ...] = ()
    """Manifests (label lines, .csv, .parquet) and record files (.rec); none: the bundled synthetic faces."""
    held_out_people: int = 0
    """People whom the run never sees, for the figures in the report."""
    image_size: int = 112
    """Side of the faces in pixels, a multiple of 16."""
    workers: int = 4
    """Processes that load faces, for each training process; 0 loads in the training process itself."""
    on_broken: Literal["skip", "raise"] = "skip"
    """Whether another face stands in for a broken image, or the run stops."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which MTLFace is built."""

    preset: Literal["paper2021", "code2021"] = "paper2021"
    """Where the sources disagree: the paper, or the released code."""
    depth: int = 50
    """Layers of the IR encoder: 18, 34, 50, 100 or 152."""
    width: int = 64
    """Channels of its stem, from which all widths follow."""
    embedding_dimension: int = 512
    """Length of an embedding."""
    discriminator_preset: Literal["paper2021", "code2021"] | None = None
    """Whose discriminator; None is that of the preset. The released one learns faster in a short run."""


@dataclass(frozen=True, kw_only=True)
class RecognitionSettings:
    """Age-invariant face recognition (AIFR): the supplement's values by default."""

    steps: int = 36_000
    """Updates."""
    global_batch: int = 512
    """Faces an update, over all processes and accumulated passes."""
    learning_rate: float = 0.1
    """Peak, reached at the end of the warm-up."""
    warmup: int = 1_000
    """Updates over which the rate rises from 0."""
    milestones: tuple[int, ...] = (20_000, 23_000)
    """Updates after which the rate is a tenth of what it was."""
    lowest_rate: float = 0.0
    """Floor of the learning rate; 1e-4 in the released code."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 5e-4
    """Of all parameters outside norm layers."""
    scale: float = 64.0
    """CosFace's s."""
    margin: float = 0.35
    """CosFace's m."""
    sample_fraction: float = 1.0
    """Share of the identities that each update compares with (Partial FC); 1 is exact."""
    age_weight: float = 0.001
    """λ of the age head."""
    adversary_weight: float = 0.002
    """λ of the age adversary."""


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """Face age synthesis (FAS): the supplement's values by default."""

    steps: int = 36_000
    """Updates of discriminator and generator."""
    global_batch: int = 512
    """Faces an update, over all processes and accumulated passes."""
    learning_rate: float = 1e-4
    """Of the generator's Adam, fixed after generator_delay."""
    discriminator_rate: float = 1e-4
    """Of the discriminator's, fixed."""
    generator_delay: int = 0
    """Updates in which only the discriminator learns, and over which the generator's rate rises after that."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of Adam; (0.5, 0.99) in the released code."""
    adversarial_weight: float = 75.0
    """λ of the adversarial term."""
    identity_weight: float = 0.002
    """λ of the identity term."""
    age_weight: float = 10.0
    """λ of the age group's cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """How a run computes; apart from norms_in_eval it changes nothing beyond rounding."""

    device: str = "auto"
    """cuda, mps or cpu; auto takes the first that there is."""
    largest_pass: int = 64
    """Most faces in one forward pass of a process; larger shares are accumulated."""
    precision: Precision = "auto"
    """auto is bfloat16 autocast on CUDA and float32 elsewhere; float16 comes with a gradient scaler."""
    channels_last: bool = False
    """Whether maps keep a pixel's channels together in memory, which tensor cores like."""
    compile: bool = False
    """Whether torch.compile makes kernels for the networks: minutes at the start, faster steps."""
    norms_in_eval: bool = False
    """Whether norms keep their statistics and nothing is dropped out: N processes then compute just what one does."""
    store_encodings: float = 0.0
    """GiB of memory in which encodings of all sources may be kept while the encoder is frozen; 0 encodes anew."""


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """What a run leaves behind while it runs."""

    log_every: int = 50
    """Updates between two lines of metrics."""
    grid_every: int = 1_000
    """Updates between two pictures of aged faces."""
    checkpoint_every: int = 2_000
    """Updates between two checkpoints."""
    keep_checkpoints: int = 3
    """How many of them stay."""
    onnx: bool = True
    """Whether the recogniser is exported to ONNX at the end, where the extra onnx is installed."""
    tensorboard: bool = True
    """Whether TensorBoard's files are written as well."""
    wandb_project: str | None = None
    """Project at Weights & Biases to log to as well."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """A run of MTLFace from faces to a report."""

    output: Path = Path("mtlface-run")
    """Folder of everything that the run writes."""
    phases: Phases = "recognition-then-synthesis"
    """What is learnt, one of both alone, one after the other (encoder frozen in the second), or both in each step."""
    start_from: Path | None = None
    """Folder of a saved model to begin with, as MTLFace.save_pretrained writes it; synthesis alone needs one."""
    resume: Literal["auto", "never", "must"] = "auto"
    """Whether to go on from the newest checkpoint in the output folder, if there is one."""
    seed: int = 0
    """Of everything that is random."""
    dry_run: bool = False
    """Build everything, run one step of each kind, print sizes and speed, and write nothing."""
    faces: FacesSettings = field(default_factory=FacesSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    recognition: RecognitionSettings = field(default_factory=RecognitionSettings)
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
