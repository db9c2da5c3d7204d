from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from facemtl.data.bundled import bundled_faces
from facemtl.networks.mtlface import MTLFace
from facemtl.training.held_out import held_out_figures
from facemtl.training.verification_pairs import accuracy_over_folds, area_under_curve, draw_pairs
from tests.held_out_faces import PlainFaces, random_faces, reading_model


def naive_auc(scores: np.ndarray, same: np.ndarray) -> float:
    wins = 0.0
    for one in scores[same]:
        for other in scores[~same]:
            wins += 1.0 if one > other else 0.5 if one == other else 0.0
    return wins / (same.sum() * (~same).sum())


@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_the_area_under_the_curve_equals_a_double_loop(levels: int) -> None:
    generator = np.random.default_rng(levels)
    same = generator.random(150) < 0.4
    scores = generator.integers(levels, size=150) / levels + 0.2 * same
    assert area_under_curve(scores, same) == pytest.approx(naive_auc(scores, same), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ten_folds_equal_a_search_by_hand(seed: int) -> None:
    """Few pairs and coarse scores, so that several thresholds are equally good: the middle one counts."""
    generator = np.random.default_rng(seed)
    same = np.arange(40) < 20
    scores = np.round(generator.normal(size=40) + same, 1)
    split = np.random.default_rng(3)
    folds = np.empty(40, int)
    for kind in (same, ~same):
        folds[kind] = split.permutation(20) % 10
    right = []
    for fold in range(10):
        rest = folds != fold
        between = np.unique(scores[rest])
        candidates = [-np.inf, *((between[1:] + between[:-1]) / 2), np.inf]
        hits = [((scores[rest] >= threshold) == same[rest]).sum() for threshold in candidates]
        best = [threshold for threshold, hit in zip(candidates, hits, strict=True) if hit == max(hits)]
        chosen = best[len(best) // 2]
        right.append(((scores[~rest] >= chosen) == same[~rest]).mean())
    assert accuracy_over_folds(scores, same, seed=3) == pytest.approx(np.mean(right), abs=1e-12)


def test_figures_equal_those_of_the_verbs() -> None:
    """Against embed, estimate_age and age_to, face by face, on a real model and the bundled faces."""
    model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32).eval()
    dataset = bundled_faces()
    figures = held_out_figures(model, dataset, most_faces=40, synthesized_faces=3, batch_size=16, pairs=30, seed=2)

    people = np.random.default_rng(2).permutation(256)
    chosen = sorted(np.argsort(people[dataset.columns.identities], kind="stable")[:40].tolist())
    images = torch.stack([dataset[place].image for place in chosen]).float() / 127.5 - 1
    identities, ages = dataset.columns.identities[chosen], dataset.columns.ages[chosen].astype(float)
    embeddings, estimates = model.embed(images).double().numpy(), model.estimate_age(images).double().numpy()
    drawn = draw_pairs(identities, pairs=30, seed=2)
    scores = np.array([embeddings[one] @ embeddings[two] for one, two in zip(drawn.first, drawn.second, strict=True)])

    assert (figures.faces, figures.people, figures.pairs, figures.synthesized) == (40, 5, 60, 3)
    assert figures.auc == pytest.approx(naive_auc(scores, drawn.same), abs=2e-3)  # float32 batches of other sizes
    assert figures.same_person_similarity == pytest.approx(scores[drawn.same].mean(), abs=1e-5)
    far = np.abs(ages[drawn.first] - ages[drawn.second]) >= 20
    assert figures.pairs_across_ages == far.sum() > 20
    assert figures.auc_across_ages == pytest.approx(naive_auc(scores[far], drawn.same[far]), abs=2e-3)
    assert figures.age_error == pytest.approx(np.abs(estimates - ages).mean(), abs=1e-3)
    assert figures.age_within_5_years == pytest.approx((np.abs(estimates - ages) <= 5).mean(), abs=1e-9)
    assert figures.age_error_of_median == pytest.approx(np.abs(ages - np.median(ages)).mean(), abs=1e-5)

    shown = images[np.random.default_rng(2).permutation(40)[:3]]
    aged = model.age_to(shown)
    for group in range(7):
        cosines = (model.embed(aged[:, group], flip=False) * model.embed(shown, flip=False)).sum(1)
        hits = model.age_groups.groups_of(model.estimate_age(aged[:, group])) == group
        assert figures.identity_preservation_by_group[group] == pytest.approx(cosines.mean().item(), abs=1e-5)
        assert figures.age_accuracy_by_group[group] == pytest.approx(hits.float().mean().item())
        change = (aged[:, group] - shown).abs().mean().item() * 127.5
        assert figures.pixel_change_by_group[group] == pytest.approx(change, abs=1e-4)
    assert figures.age_accuracy == pytest.approx(np.mean(figures.age_accuracy_by_group))


def test_planted_answers() -> None:
    """Faces that are as old as they are bright, people told apart by a pattern, a generator that hits its target."""
    people = random_faces(20, seed=1).float() / 255 * 60 - 30
    years = torch.tensor([10.0, 50.0, 80.0]).repeat(20)
    images = (people.repeat_interleave(3, 0) + (years * 2.55)[:, None, None, None]).round().clamp(0, 255).byte()
    figures = held_out_figures(
        reading_model().eval(), PlainFaces(images, torch.arange(20).repeat_interleave(3), years), seed=1, batch_size=7
    )
    assert figures.age_error is not None
    assert figures.age_error < 3.0
    assert figures.age_within_5_years == 1.0
    assert figures.pairs == 120  # all 60 of one person
    assert figures.age_accuracy == 1.0
    assert figures.age_accuracy_by_group == (1.0,) * 7
    assert json.loads(json.dumps(figures.to_dict(), allow_nan=False))["age_accuracy_by_group"] == [1.0] * 7


def test_a_perfect_recogniser_is_always_right() -> None:
    images = random_faces(12, seed=2).repeat_interleave(4, 0)
    figures = held_out_figures(
        reading_model(generator=False).eval(), PlainFaces(images, np.arange(48) // 4, np.full(48, np.nan))
    )
    assert (figures.auc, figures.accuracy) == (1.0, 1.0)
    assert figures.same_person_similarity == pytest.approx(1.0)
    assert (figures.age_error, figures.auc_across_ages, figures.age_accuracy) == (None, None, None)
    assert (figures.faces_of_known_age, figures.synthesized, figures.age_accuracy_by_group) == (0, 0, ())
