"""Runs that have a name: the paper's two, the same on one GPU, and one for a first look."""

from __future__ import annotations

from dataclasses import replace

from facemtl.training.settings import (
    ComputeSettings,
    FacesSettings,
    ModelSettings,
    RecognitionSettings,
    RecordSettings,
    SynthesisSettings,
    TrainingSettings,
)


def lcaf_8gpu() -> TrainingSettings:
    """The paper's run on LCAF, the large cross-age face set (1.7 M faces): batch 512 on 8 GPUs, 110,000 updates.

    References:
        MTLFace (CVPR 2021), supplementary material.

    Example:
        >>> settings = lcaf_8gpu()
        >>> settings.recognition.milestones, settings.synthesis.betas
        ((70000, 90000), (0.9, 0.99))
    """
    settings = scaf_8gpu()
    return replace(
        settings,
        recognition=replace(settings.recognition, steps=110_000, warmup=5_000, milestones=(70_000, 90_000)),
        synthesis=replace(settings.synthesis, steps=110_000),
    )


def scaf_8gpu() -> TrainingSettings:
    """The paper's run on SCAF, the small cross-age face set (0.5 M faces): batch 512 on 8 GPUs, 36,000 updates.

    References:
        MTLFace (CVPR 2021), supplementary material.

    Example:
        >>> scaf_8gpu().recognition.warmup
        1000
    """
    return TrainingSettings(
        faces=FacesSettings(held_out_people=200),
        model=ModelSettings(),
        recognition=RecognitionSettings(),
        synthesis=SynthesisSettings(),
        compute=ComputeSettings(largest_pass=64, channels_last=True),
        record=RecordSettings(),
    )


def one_gpu() -> TrainingSettings:
    """The paper's run on SCAF with one GPU: the same batch of 512, accumulated over eight passes of 64.

    Batch norms see 64 faces at a time on eight GPUs and here alike, so only the time differs.

    Example:
        >>> settings = one_gpu()
        >>> settings.recognition.global_batch, settings.compute.largest_pass
        (512, 64)
    """
    return scaf_8gpu()


def quick() -> TrainingSettings:
    """A first look: the bundled synthetic faces, a small encoder, minutes on two CPU cores.

    Everything is smaller than in the paper. The margin is milder, as 200 people are few; in a thousand updates instead
    of 36,000 the discriminator must learn faster than the generator, and an age head that has seen so little is easily
    fooled, so less weight is on it and more on identity.

    Example:
        >>> quick().faces.sources
        ()
    """
    return TrainingSettings(
        faces=FacesSettings(held_out_people=48, image_size=64, workers=0),
        model=ModelSettings(depth=18, width=16, embedding_dimension=128, discriminator_preset="code2021"),
        recognition=RecognitionSettings(
            steps=500, global_batch=64, learning_rate=0.05, warmup=50, milestones=(300, 425), scale=32.0, margin=0.2
        ),
        synthesis=SynthesisSettings(
            steps=1_000,
            global_batch=16,
            learning_rate=1e-4,
            discriminator_rate=4e-4,
            generator_delay=100,
            betas=(0.5, 0.99),
            identity_weight=0.3,
            age_weight=0.3,
        ),
        compute=ComputeSettings(store_encodings=0.6),
        record=RecordSettings(log_every=10, grid_every=200, checkpoint_every=250),
    )
