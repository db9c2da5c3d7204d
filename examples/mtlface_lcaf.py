r"""Train the whole of MTLFace: age-invariant recognition, age estimation and face age synthesis.

    python mtlface_lcaf.py                                        a first look: bundled faces, minutes on a laptop
    torchrun --nproc-per-node 8 mtlface_lcaf.py --preset lcaf \
        --faces.sources lcaf.csv --output runs/lcaf                the paper's run on 8 GPUs

--preset is quick (default), lcaf, scaf or one-gpu; every number of theirs can be changed by an option below. The run
writes metrics, pictures, checkpoints, the model and report.html into its output folder. The same command goes on from
the newest checkpoint there; Ctrl-C and SIGTERM write one and stop.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from facemtl import (
    ShuffledSampler,
    TargetGroupBatch,
    TargetGroupCollator,
    TargetGroupSampler,
    collate_faces,
    value_checks,
)
from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.samples import FaceBatch
from facemtl.networks.mtlface import EncodedFaces
from facemtl.training import presets
from facemtl.training.checkpoint import CheckpointFolder
from facemtl.training.ending import write_ending
from facemtl.training.finite import BufferSnapshot, TrainingDiverged
from facemtl.training.frozen import frozen_recogniser, recognition_part
from facemtl.training.interruption import StopRequest, listen_for_stop
from facemtl.training.loader import training_batches
from facemtl.training.metrics_log import MetricsLog
from facemtl.training.passes import face_passes, mean_terms, until_last
from facemtl.training.processes import Processes, launch
from facemtl.training.randomness import seed_step
from facemtl.training.recorder import METRICS, Recorder
from facemtl.training.run import Position, Run, build_run, present, resume, store_encodings
from facemtl.training.run_facts import plain
from facemtl.training.schedule import WarmupSteps, set_learning_rate
from facemtl.training.settings import TrainingSettings
from facemtl.training.step_progress import StepProgress, clock
from facemtl.training.steps import discriminator_losses, encode_sources, generator_losses, recognition_losses

PRESETS = {
    "quick": presets.quick,
    "lcaf": presets.lcaf_8gpu,
    "scaf": presets.scaf_8gpu,
    "one-gpu": presets.one_gpu,
}


class RecognitionUpdate:
    """One update of encoder, decomposition, age heads and margin head: ``L = CosFace + λ·age + λ·reversed age``."""

    def __init__(self, run: Run) -> None:
        self.run, self.options = run, run.settings.recognition
        self.network = run.processes.parallel(recognition_part(run.model))
        self.optimizers = (run.optimizers["recognition"], run.optimizers["head"])
        self.schedule = WarmupSteps(
            peak=self.options.learning_rate,
            warmup=self.options.warmup,
            milestones=self.options.milestones,
            floor=self.options.lowest_rate,
        )

    def sampler(self) -> GlobalBatchSampler:
        """Walk through all faces, each once an epoch."""
        return ShuffledSampler(
            len(self.run.faces.training), global_batch_size=self.options.global_batch, seed=self.run.settings.seed
        )

    collate = staticmethod(collate_faces)

    @property
    def faces_per_update(self) -> int:
        """Faces that all processes learn from in an update."""
        return self.options.global_batch

    def __call__(self, batch: FaceBatch, number: int, step: int) -> dict[str, float]:
        """Take update ``number`` of recognition, which is step ``step`` of the run."""
        run, options = self.run, self.options
        rate = self.schedule.at(number)
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, rate)
        faces = batch._replace(images=run.pixels(batch, step, purpose=1))
        passes, terms = face_passes(faces, run.passes_of(len(faces.images))), []
        for part, context in until_last(passes, self.network):
            with context:
                # Labels were checked when the faces were opened; whether losses are finite, the guard asks.
                with run.precision.autocast(), value_checks("never"):
                    losses = recognition_losses(
                        self.network,
                        run.head,
                        part.images,
                        part.identities,
                        part.ages,
                        age_weight=options.age_weight,
                        adversary_weight=options.adversary_weight,
                    )
                run.precision.backward(losses.total / len(passes))
            terms.append(losses)
        means = mean_terms("recognition", terms)
        means["recognition/gradient_norm"] = run.precision.gradient_norm(*self.optimizers)
        values = run.guard.check(means, step=step, phase="recognition", faces=batch.indices)
        run.precision.step(*self.optimizers)
        for optimizer in self.optimizers:  # here, so that a joint step has their memory for the synthesis
            optimizer.zero_grad(set_to_none=True)
        return {**values, "recognition/learning_rate": rate}


class SynthesisUpdate:
    """One update of the discriminator, then one of the generator; the encoder only looks on."""

    def __init__(self, run: Run, *, encoder_learns: bool = False) -> None:
        self.run, self.options = run, run.settings.synthesis
        self.recogniser = run.model if encoder_learns else frozen_recogniser(run.model)
        self.store = None if encoder_learns else store_encodings(run, self.recogniser)
        self.generator = run.processes.parallel(present(run.model.generator))
        self.discriminator = run.processes.parallel(present(run.model.discriminator))

    def sampler(self) -> GlobalBatchSampler:
        """Each face in turn to be aged, a uniform target group for it, and a real face of that group."""
        return TargetGroupSampler(
            self.run.faces.training.columns.ages,
            age_groups=self.run.model.age_groups,
            global_batch_size=self.options.global_batch,
            seed=self.run.settings.seed,
        )

    @property
    def collate(self) -> TargetGroupCollator:
        """Make sources, target groups and real faces of a batch."""
        return TargetGroupCollator(self.run.model.age_groups)

    @property
    def faces_per_update(self) -> int:
        """Faces that all processes age in an update."""
        return self.options.global_batch

    def __call__(self, batch: TargetGroupBatch, number: int, step: int) -> dict[str, float]:
        """Take update ``number`` of the synthesis, which is step ``step`` of the run."""
        run = self.run
        sources = run.pixels(batch.sources, step, purpose=2)
        real = run.pixels(batch.target_faces, step, purpose=3)
        passes = run.passes_of(len(sources))
        parts = list(zip(sources.chunk(passes), real.chunk(passes), batch.target_groups.chunk(passes), strict=True))
        faces = batch.sources.indices
        encoded = self._encode(parts, faces, step)
        synthesized, values = self._discriminator_turn(parts, encoded, faces, step)
        set_learning_rate(run.optimizers["generator"], self._generator_rate(number))
        return {**values, **self._generator_turn(parts, encoded, synthesized, faces, step)}

    def _generator_rate(self, number: int) -> float:
        """Fixed; but the discriminator may be given a start, without which it only follows."""
        rate, delay = self.options.learning_rate, self.options.generator_delay
        return rate * min(1.0, max(0.0, number / delay - 1.0)) if delay else rate

    def _encode(self, parts: list[Any], faces: Tensor, step: int) -> list[EncodedFaces]:
        """Look up the encodings of the sources, or compute them; each serves both turns."""
        run = self.run
        if self.store is not None:
            flipped = run.flipped(len(faces), step, purpose=2)
            places = zip(faces.chunk(len(parts)), flipped.chunk(len(parts)), strict=True)
            return [self.store.encodings(*place) for place in places]
        with run.precision.autocast():
            return [encode_sources(self.recogniser, images) for images, _, _ in parts]

    def _discriminator_turn(
        self, parts: list[Any], encoded: list[Any], faces: Tensor, step: int
    ) -> tuple[list[Tensor], dict[str, float]]:
        """Real faces against synthesized ones. With one pass the generator's turn goes on with the same faces."""
        run, optimizer = self.run, self.run.optimizers["discriminator"]
        optimizer.zero_grad(set_to_none=True)
        synthesized, terms = [], []
        for (part, maps), context in until_last(list(zip(parts, encoded, strict=True)), self.discriminator):
            images, real, groups = part
            with context:
                with run.precision.autocast():
                    with torch.set_grad_enabled(len(parts) == 1):
                        aged = self.generator(maps.identity, maps.levels, images, groups)
                    losses = discriminator_losses(self.discriminator, real, aged, groups)
                run.precision.backward(losses.total / len(parts))
            synthesized.append(aged)
            terms.append(losses)
        means = mean_terms("synthesis", terms)
        means["synthesis/discriminator"] = means.pop("synthesis/total")
        means["synthesis/discriminator_gradient_norm"] = run.precision.gradient_norm(optimizer)
        values = run.guard.check(means, step=step, phase="synthesis", faces=faces)
        run.precision.step(optimizer)
        return synthesized, values

    def _generator_turn(
        self, parts: list[Any], encoded: list[Any], synthesized: list[Tensor], faces: Tensor, step: int
    ) -> dict[str, float]:
        """The synthesized faces before the discriminator, the age head and the identity maps of their sources."""
        run, options, optimizer = self.run, self.options, self.run.optimizers["generator"]
        optimizer.zero_grad(set_to_none=True)
        terms = []
        for (part, maps, aged), context in until_last(
            list(zip(parts, encoded, synthesized, strict=True)), self.generator
        ):
            images, _, groups = part
            with context:
                with run.precision.autocast():
                    if len(parts) > 1:
                        aged = self.generator(maps.identity, maps.levels, images, groups)
                    losses = generator_losses(
                        self.recogniser,
                        present(run.model.discriminator),
                        aged,
                        maps.identity,
                        groups,
                        adversarial_weight=options.adversarial_weight,
                        identity_weight=options.identity_weight,
                        age_weight=options.age_weight,
                    )
                run.precision.backward(losses.total / len(parts))
            terms.append(losses)
        means = mean_terms("synthesis", terms)
        means["synthesis/gradient_norm"] = run.precision.gradient_norm(optimizer)
        values = run.guard.check(means, step=step, phase="synthesis", faces=faces)
        run.precision.step(optimizer)
        return values


class JointUpdate:
    """Recognition on the sources of a batch, then synthesis with the encoder as it is now."""

    def __init__(self, run: Run) -> None:
        self.recognition, self.synthesis = RecognitionUpdate(run), SynthesisUpdate(run, encoder_learns=True)
        self.sampler, self.collate = self.synthesis.sampler, self.synthesis.collate
        self.faces_per_update = self.synthesis.faces_per_update

    def __call__(self, batch: TargetGroupBatch, number: int, step: int) -> dict[str, float]:
        """Take update ``number`` of both."""
        return {**self.recognition(batch.sources, number, step), **self.synthesis(batch, number, step)}


Phase = tuple[str, Callable[[Run], Any], int]
"""Name, kind of update and number of updates."""


def phases_of(settings: TrainingSettings) -> list[Phase]:
    """Name, kind of update and number of updates of each phase."""
    recognition: Phase = ("recognition", RecognitionUpdate, settings.recognition.steps)
    synthesis: Phase = ("synthesis", SynthesisUpdate, settings.synthesis.steps)
    joint: Phase = ("joint", JointUpdate, settings.synthesis.steps)
    return {
        "recognition": [recognition],
        "synthesis": [synthesis],
        "recognition-then-synthesis": [recognition, synthesis],
        "joint": [joint],
    }[settings.phases]


def run_phase(run: Run, name: str, update: Any, total: int, start: Position, recorder: Recorder) -> Position:
    """Take the updates of a phase from ``start`` on; the position returned is short of its end if a signal came."""
    every, position = run.settings.record, start
    sampler = update.sampler()
    batches = training_batches(
        run.faces.training,
        sampler,
        update.collate,
        first_step=start.number,
        device=run.processes.device,
        workers=run.settings.faces.workers,
    )
    buffers = BufferSnapshot(run.model)
    run.model.train(not run.settings.compute.norms_in_eval)
    for number in range(start.number + 1, total + 1):
        step = position.step + 1
        batch = next(batches)
        seed_step(run.settings.seed, step, run.processes.rank)
        buffers.take()
        try:
            values = update(batch, number, step)
        except TrainingDiverged:
            buffers.restore()
            recorder.checkpoint(position, sampler)
            raise
        position = Position(phase=start.phase, number=number, step=step)
        last = number == total or run.guard.stopping
        recorder.note(values, faces=update.faces_per_update, step=step, flush=last)
        if name != "recognition" and (number % every.grid_every == 0 or number == total):
            recorder.picture(step)
        if step % every.checkpoint_every == 0 or last:
            recorder.checkpoint(position, sampler)
        if run.guard.stopping:
            break
    return position


def train(settings: TrainingSettings, processes: Processes, stop: StopRequest) -> int:
    """Train, then write model and report; the exit code is 128 + the signal's number if one stopped the run."""
    run = build_run(settings, processes, stop)
    if settings.dry_run:
        return rehearse(run)
    if processes.is_main:
        print(introduction(run), flush=True)
    checkpoints = CheckpointFolder(settings.output / "checkpoints", keep=settings.record.keep_checkpoints)
    position = resume(run, checkpoints)
    phases, main = phases_of(settings), processes.is_main
    with (
        MetricsLog(
            settings.output,
            METRICS,
            resume_at=position.step,
            tensorboard=settings.record.tensorboard,
            wandb_project=settings.record.wandb_project,
            settings=plain(settings),
        )
        if main
        else nullcontext() as log,
        StepProgress(sum(total for _, _, total in phases), done=position.step, shown=main) as progress,
    ):
        if position.step:
            progress.say(f"Going on after step {position.step:,}.")
        recorder = Recorder(run, log, progress, checkpoints)
        for place in range(position.phase, len(phases)):
            name, make_update, total = phases[place]
            start = position if position.phase == place else Position(phase=place, step=position.step)
            position = run_phase(run, name, make_update(run), total, start, recorder)
            if position.number < total:
                progress.say(
                    f"Stopped after step {position.step:,}: a checkpoint is written, the same command goes on."
                )
                return 128 + signal.Signals[stop.name or "SIGTERM"].value
    write_ending(run)
    return 0


def rehearse(run: Run) -> int:
    """Take two steps of each kind and print what a run would need; nothing is written."""
    say: Callable[[str], None] = print if run.processes.is_main else lambda text: None
    say(introduction(run))
    run.model.train()
    for name, make_update, total in phases_of(run.settings):
        update = make_update(run)
        batches = training_batches(
            run.faces.training, update.sampler(), update.collate, first_step=0, device=run.processes.device, workers=0
        )
        for number in (1, 2):
            batch = next(batches)
            began = time.perf_counter()
            values = update(batch, number, number)
            seconds = time.perf_counter() - began
        losses = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        speed, whole = update.faces_per_update / seconds, clock(total * seconds)
        say(f"{name}: {speed:,.0f} images/s, {total:,} steps would take {whole}")
        say(f"  {losses}")
    say(f"Peak memory of a process: {peak_memory(run.processes.device) / 2**30:.2f} GiB.")
    return 0


def introduction(run: Run) -> str:
    """What is about to be trained, on what and how: for the reader of the terminal."""
    settings, faces, processes = run.settings, run.faces, run.processes
    parts = ("encoder", "decomposition", "embedding", "age_head", "adversary", "generator", "discriminator")
    sizes = ", ".join(f"{name} {millions(getattr(run.model, name))}" for name in parts)
    held_out = f", {faces.held_out.num_identities:,} people held out" if faces.held_out else ""
    share = processes.share_of(settings.recognition.global_batch, "recognition.global_batch")
    lines = [
        f"MTLFace {settings.model.preset}: {sizes}, margin head {faces.training.num_identities:,} people",
        f"Faces: {len(faces.training):,} of {faces.training.num_identities:,} people{held_out}"
        + (f"; {faces.nameless:,} left out, as nobody said who they are" if faces.nameless else ""),
        f"{processes.world_size} process(es) on {processes.device.type}, {run.precision.name}; global batch "
        f"{settings.recognition.global_batch} = {processes.world_size} x {run.passes_of(share)} passes x "
        f"{share // run.passes_of(share)}",
    ]
    return "\n".join(lines)


def millions(module: nn.Module) -> str:
    """Parameters of a module in millions."""
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M"


def peak_memory(device: torch.device) -> float:
    """Most bytes that this process held: on the GPU, or of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_settings(arguments: Sequence[str]) -> TrainingSettings:
    """Take a preset and change what the command line says."""
    import tyro

    choice = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    choice.add_argument("--preset", choices=PRESETS, default="quick")
    chosen, rest = choice.parse_known_args(arguments)
    return tyro.cli(
        TrainingSettings,
        default=PRESETS[chosen.preset](),
        args=rest,
        description=f"{__doc__}\n\nThe defaults below are those of --preset {chosen.preset}.",
        config=(tyro.conf.AvoidSubcommands,),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, start or join the processes, and train."""
    settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    with launch(settings.compute.device) as processes, listen_for_stop() as stop:
        return train(settings, processes, stop)


if __name__ == "__main__":
    sys.exit(main())
