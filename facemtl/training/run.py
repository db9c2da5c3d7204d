"""A run put together from its settings: faces, model, margin head, optimizers, and what all its parts share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facemtl._core.pixels import to_model_input
from facemtl.data.samples import FaceBatch
from facemtl.data.transforms import draw_flips, random_flip
from facemtl.heads.sharded import ShardedCosFace
from facemtl.networks.mtlface import MTLFace
from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.checkpoint_agreement import on_first
from facemtl.training.encoding_store import EncodingsDoNotFitError, EncodingStore
from facemtl.training.frozen import recognition_part
from facemtl.training.guard import Guard
from facemtl.training.interruption import StopRequest
from facemtl.training.parameter_groups import weight_decay_groups
from facemtl.training.passes import number_of_passes
from facemtl.training.precision import Precision
from facemtl.training.processes import Processes
from facemtl.training.randomness import step_generator
from facemtl.training.run_facts import check_run, run_facts
from facemtl.training.settings import TrainingSettings
from facemtl.training.starting_model import starting_model
from facemtl.training.state import TrainingState
from facemtl.training.training_faces import TrainingFaces, open_training_faces
from facemtl.training.verification_pairs import FOLDS, draw_pairs

NARROWEST_CHANNELS_LAST = 12
"""Width below which torch's CPU convolutions may crash in channels_last: the backward pass of a 1×1 convolution of
stride 2 ended in a double free with 3 to 8 channels (torch 2.14 and 2.15)."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all parts of a run share."""

    settings: TrainingSettings
    """What the run was told."""
    processes: Processes
    """Of the run."""
    faces: TrainingFaces
    """To learn from, and to be judged on."""
    model: MTLFace
    """On the device, with all parts."""
    head: ShardedCosFace
    """Margin head over the people of the training faces."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    """``recognition``, ``head``, ``discriminator`` and ``generator``."""
    precision: Precision
    """Autocast and gradient scaling."""
    guard: Guard
    """Asks all processes whether the losses are finite, and whether to stop."""

    @property
    def state(self) -> TrainingState:
        """What a checkpoint holds."""
        return TrainingState(modules={"model": self.model, "head": self.head}, optimizers=self.optimizers)

    def pixels(self, batch: FaceBatch, step: int, *, purpose: int) -> Tensor:
        """Flip the faces that the global batch flips in this step, and scale all to [-1, 1].

        Args:
            batch: This process's share.
            step: Of the run.
            purpose: Another number gives other flips in the same step.
        """
        flips = self._flips(len(batch.images), step, purpose)
        images = to_model_input(random_flip(batch.images, generator=flips))
        channels_last = self.settings.compute.channels_last
        return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def flipped(self, share: int, step: int, *, purpose: int) -> Tensor:
        """Which faces of this process's share :meth:`pixels` flips, ``(share,)`` bool.

        Args:
            share: Faces of this process.
            step: Of the run.
            purpose: As there.
        """
        return draw_flips(share, generator=self._flips(share, step, purpose))

    def _flips(self, share: int, step: int, purpose: int) -> torch.Generator:
        return step_generator(self.settings.seed, step, purpose=purpose, skip=self.processes.rank * share)

    def passes_of(self, share: int) -> int:
        """In how many passes this process takes its share of a batch."""
        return number_of_passes(share, self.settings.compute.largest_pass)


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands."""

    phase: int = 0
    """Number of the phase."""
    number: int = 0
    """Updates done in it."""
    step: int = 0
    """Updates done in all."""


def build_run(settings: TrainingSettings, processes: Processes, stop: StopRequest) -> Run:
    """Open the faces, build model and margin head on the device, and the optimizers.

    The same weights on all processes, whatever their number: they follow from the seed alone.

    Args:
        settings: Of the run.
        processes: Of the run.
        stop: Whether a signal asked for an end.

    Raises:
        ValueError: If settings do not go together.
    """
    compute = settings.compute
    if compute.channels_last and processes.device.type == "cpu" and settings.model.width < NARROWEST_CHANNELS_LAST:
        raise ValueError(
            f"build_run: channels_last on a CPU needs a model of width {NARROWEST_CHANNELS_LAST} or more, got "
            f"{settings.model.width}: torch's strided 1x1 convolutions of fewer channels corrupt memory. Leave it off."
        )
    faces = open_training_faces(
        settings.faces.sources,
        held_out_people=settings.faces.held_out_people,
        image_size=settings.faces.image_size,
        seed=settings.seed,
        on_broken=settings.faces.on_broken,
    )
    if faces.held_out is not None:  # now, and not at the end of a run that cannot judge itself
        draw_pairs(faces.held_out.columns.identities, pairs=FOLDS, seed=settings.seed)
    model = starting_model(settings).to(processes.device)
    head = ShardedCosFace(
        settings.model.embedding_dimension,
        faces.training.num_identities,
        scale=settings.recognition.scale,
        margin=settings.recognition.margin,
        sample_fraction=settings.recognition.sample_fraction,
        device=processes.device,
    )
    if compute.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if compute.compile:
        for part in (model.encoder, model.decomposition, model.generator, model.discriminator):
            present(part).compile()
    return Run(
        settings=settings,
        processes=processes,
        faces=faces,
        model=model,
        head=head,
        optimizers=build_optimizers(settings, model, head),
        precision=Precision(compute.precision, processes.device),
        guard=Guard(processes, stop, faces.training.name),
    )


def build_optimizers(settings: TrainingSettings, model: MTLFace, head: nn.Module) -> dict[str, torch.optim.Optimizer]:
    """SGD for recognition and Adam for the synthesis, fused into few kernels on CUDA.

    The margin head has one of its own, as its rows may be split over processes.

    Args:
        settings: Of the run.
        model: With all parts.
        head: Margin head.
    """
    fused = next(model.parameters()).device.type == "cuda"
    options, adam = settings.recognition, settings.synthesis
    groups = weight_decay_groups(recognition_part(model), weight_decay=options.weight_decay)
    return {
        "recognition": torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, fused=fused),
        "head": torch.optim.SGD(
            head.parameters(), lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
        ),
        **{
            name: torch.optim.Adam(present(part).parameters(), lr=rate, betas=adam.betas, fused=fused)
            for name, part, rate in (
                ("discriminator", model.discriminator, adam.discriminator_rate),
                ("generator", model.generator, adam.learning_rate),
            )
        },
    }


def store_encodings(run: Run, recogniser: MTLFace) -> EncodingStore | None:
    """Encode all faces once, if the settings give memory for it and they fit; otherwise each step encodes its own.

    Args:
        run: Whose encoder is frozen.
        recogniser: Its frozen recogniser.
    """
    limit = int(run.settings.compute.store_encodings * 2**30)
    if limit == 0:
        return None
    try:
        with run.precision.autocast():
            return EncodingStore(recogniser, run.faces.training, limit_bytes=limit, device=run.processes.device)
    except EncodingsDoNotFitError as error:
        if run.processes.is_main:
            print(f"Encodings are not stored: {error}", flush=True)
        return None


def resume(run: Run, checkpoints: CheckpointFolder) -> Position:
    """Go on from the newest checkpoint, if that is wanted and there is one; give where the run stands.

    A run that begins anew moves the checkpoints of an earlier one out of its way.

    Args:
        run: Its model, head and optimizers are filled.
        checkpoints: Of the run.

    Raises:
        ValueError: If there is none and there must be, or it is of another run.
    """
    wanted = run.settings.resume
    if wanted == "never":
        on_first(lambda: _move_away(checkpoints.path))
    checkpoint = checkpoints.newest() if wanted != "never" else None
    if checkpoint is None:
        if wanted == "must":
            raise ValueError(
                f"resume: there must be a checkpoint in {str(run.settings.output)!r} to go on from, got none."
            )
        return Position()
    facts = checkpoint.facts
    check_run(facts, run_facts(run.settings, run.faces), folder=checkpoint.path)
    checkpoint.restore(run.state)
    run.precision.load_state_dict(facts["precision"])
    return Position(phase=facts["phase"], number=facts["number"], step=checkpoint.step)


def _move_away(path: Path) -> None:
    """Steps of an earlier run may be higher than any of this one: they would be taken for its newest one day."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}-before-{time.time_ns()}"))


def present(part: nn.Module | None) -> nn.Module:
    """The part of a model, which must be there.

    Raises:
        ValueError: If it is not.
    """
    if part is None:
        raise ValueError("present: the model must have all parts to be trained, got one without. Build it by a preset.")
    return part
