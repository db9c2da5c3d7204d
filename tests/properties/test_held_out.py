from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.training.held_out import held_out_figures
from facemtl.training.verification_pairs import accuracy_over_folds, area_under_curve, draw_pairs
from tests.held_out_faces import PlainFaces, random_faces, reading_model


@given(
    counts=st.lists(st.integers(1, 9), min_size=4, max_size=12),
    nameless=st.integers(0, 5),
    pairs=st.integers(10, 80),
    seed=st.integers(0, 1000),
)
def test_pairs_are_different_balanced_and_what_they_say(
    counts: list[int], nameless: int, pairs: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    counts = [5, *counts]  # ten pairs of one person at least
    identities = generator.permutation([*np.repeat(np.arange(len(counts)) * 3, counts), *([-1] * nameless)])
    of_one = sum(count * (count - 1) // 2 for count in counts)
    of_two = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    drawn = draw_pairs(identities, pairs=pairs, seed=seed)
    wanted = min(pairs, of_one, of_two)
    assert (int(drawn.same.sum()), int((~drawn.same).sum())) == (wanted, wanted)
    assert ((identities[drawn.first] == identities[drawn.second]) == drawn.same).all()
    assert (identities[[*drawn.first, *drawn.second]] >= 0).all()
    unordered = {frozenset(pair) for pair in zip(drawn.first.tolist(), drawn.second.tolist(), strict=True)}
    assert len(unordered) == 2 * wanted
    assert all(len(pair) == 2 for pair in unordered)
    again = draw_pairs(identities, pairs=pairs, seed=seed)
    assert (again.first == drawn.first).all()
    assert (again.second == drawn.second).all()


def test_no_person_fills_the_list() -> None:
    """One person has 500 faces, a hundred have two: of all pairs of one person 99.9 % are of the one."""
    identities = np.concatenate([np.zeros(500, int), np.repeat(np.arange(1, 101), 2)])
    drawn = draw_pairs(identities, pairs=150, seed=0)
    owners = identities[drawn.first[drawn.same]]
    assert 40 <= int((owners == 0).sum()) <= 60
    strangers = identities[np.concatenate([drawn.first[~drawn.same], drawn.second[~drawn.same]])]
    assert int((strangers == 0).sum()) < 20


@given(seed=st.integers(0, 10_000), levels=st.integers(1, 6))
def test_scores_may_be_moved_but_not_turned(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    same = generator.permutation(np.arange(60) < 30)
    scores = generator.integers(levels, size=60) + 0.5 * same
    area = area_under_curve(scores, same)
    assert area_under_curve(3.0 * scores - 7.0, same) == area
    assert abs(area_under_curve(-scores, same) - (1.0 - area)) < 1e-12
    assert abs(area_under_curve(scores, ~same) - (1.0 - area)) < 1e-12
    assert accuracy_over_folds(8.0 * scores, same, seed=seed) == accuracy_over_folds(scores, same, seed=seed)
    assert 0.0 <= accuracy_over_folds(scores, same, seed=seed) <= 1.0


def test_equal_scores_say_nothing() -> None:
    same = np.arange(40) < 20
    assert area_under_curve(np.zeros(40), same) == 0.5
    assert accuracy_over_folds(np.zeros(40), same, seed=0) == 0.5


def test_modes_buffers_and_batches() -> None:
    """The model is in train mode; its batch norm must not learn, modes stay, and the batch size changes nothing."""
    model = reading_model()
    assert model.generator is not None
    model.generator.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    faces = PlainFaces(random_faces(30), np.arange(30) // 5, np.linspace(1, 90, 30))
    one, other = (held_out_figures(model, faces, batch_size=size) for size in (1, 64))
    assert model.training
    assert model.embedding.norm.training
    assert not model.generator.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, value in one.to_dict().items():
        if name not in ("group_labels", "auc_across_ages"):
            np.testing.assert_allclose(value, other.to_dict()[name], atol=1e-5, err_msg=name)


def test_stand_ins_and_nameless_faces_are_in_no_pair() -> None:
    """Face 1 is broken and face 0 stands in for it: twice the same image would be an easy pair of one person."""
    images = random_faces(30)
    identities = [*(np.arange(24) // 4).tolist(), *([-1] * 6)]
    whole = held_out_figures(reading_model(), PlainFaces(images, identities, np.full(30, 30.0)))
    assert (whole.faces, whole.people, whole.pairs, whole.faces_of_known_age) == (30, 6, 72, 30)
    broken = held_out_figures(reading_model(), PlainFaces(images, identities, np.full(30, 30.0), stand_ins={1: 0}))
    assert (broken.faces, broken.people, broken.pairs) == (29, 6, 66)


def test_few_faces_are_whole_people() -> None:
    identities = np.arange(120) % 20
    figures = held_out_figures(
        reading_model(generator=False), PlainFaces(random_faces(120), identities, np.full(120, np.nan)), most_faces=30
    )
    assert (figures.faces, figures.people, figures.pairs) == (30, 5, 150)


def test_the_nameless_come_last() -> None:
    identities = [*([-1] * 60), *(np.arange(60) % 10).tolist()]
    faces = PlainFaces(random_faces(120), identities, np.full(120, 30.0))
    figures = held_out_figures(reading_model(generator=False), faces, most_faces=70)
    assert (figures.faces, figures.people, figures.pairs, figures.faces_of_known_age) == (70, 10, 300, 70)
