"""The presets against the paper's supplement, number by number."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from facemtl.training import presets
from facemtl.training.passes import number_of_passes
from facemtl.training.schedule import WarmupSteps
from facemtl.training.settings import TrainingSettings

PAPERS = {"lcaf": presets.lcaf_8gpu, "scaf": presets.scaf_8gpu}
STEPS = {"lcaf": 110_000, "scaf": 36_000}
SCHEDULE = {"lcaf": (5_000, (70_000, 90_000)), "scaf": (1_000, (20_000, 23_000))}


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_runs_are_the_supplement(name: str) -> None:
    settings = PAPERS[name]()
    assert (settings.phases, settings.faces.image_size) == ("recognition-then-synthesis", 112)
    assert asdict(settings.model) == {
        "preset": "paper2021",
        "depth": 50,
        "width": 64,
        "embedding_dimension": 512,
        "discriminator_preset": None,
    }
    warmup, milestones = SCHEDULE[name]
    assert asdict(settings.recognition) == {
        "steps": STEPS[name],
        "global_batch": 512,
        "learning_rate": 0.1,
        "warmup": warmup,
        "milestones": milestones,
        "lowest_rate": 0.0,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "scale": 64.0,
        "margin": 0.35,
        "sample_fraction": 1.0,
        "age_weight": 0.001,
        "adversary_weight": 0.002,
    }
    assert asdict(settings.synthesis) == {
        "steps": STEPS[name],
        "global_batch": 512,
        "learning_rate": 1e-4,
        "discriminator_rate": 1e-4,
        "generator_delay": 0,
        "betas": (0.9, 0.99),
        "adversarial_weight": 75.0,
        "identity_weight": 0.002,
        "age_weight": 10.0,
    }
    assert number_of_passes(512 // 8, settings.compute.largest_pass) == 1, "on eight GPUs nothing is accumulated"


def schedule_of(settings: TrainingSettings) -> WarmupSteps:
    options = settings.recognition
    return WarmupSteps(
        peak=options.learning_rate,
        warmup=options.warmup,
        milestones=options.milestones,
        floor=options.lowest_rate,
    )


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("lcaf", {1: 2e-5, 2_500: 0.05, 5_000: 0.1, 70_000: 0.1, 70_001: 0.01, 90_000: 0.01, 90_001: 1e-3}),
        ("scaf", {1: 1e-4, 500: 0.05, 1_000: 0.1, 20_000: 0.1, 20_001: 0.01, 23_000: 0.01, 23_001: 1e-3}),
    ],
)
def test_learning_rates(name: str, rates: dict[int, float]) -> None:
    schedule = schedule_of(PAPERS[name]())
    assert {step: schedule.at(step) for step in rates} == pytest.approx(rates, rel=1e-12)


def test_one_gpu_learns_what_eight_learn() -> None:
    one, eight = presets.one_gpu(), presets.scaf_8gpu()
    assert (one.recognition, one.synthesis, one.model) == (eight.recognition, eight.synthesis, eight.model)
    for batch in (one.recognition.global_batch, one.synthesis.global_batch):
        passes = number_of_passes(batch, one.compute.largest_pass)
        assert (passes, batch // passes) == (8, 64), "batch norms see as many faces as on each of eight GPUs"


def test_the_first_look_needs_nothing() -> None:
    settings = presets.quick()
    assert settings.faces.sources == ()
    assert settings.start_from is None
    schedule_of(settings)
    assert settings.recognition.steps > settings.recognition.milestones[-1]
