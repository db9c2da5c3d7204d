from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemtl.alignment.similarity import estimate_similarity
from facemtl.data.samples import collate_faces
from facemtl.data.synthetic.faces import SyntheticFaces
from facemtl.data.synthetic.moved import moved
from tests.synthetic_faces import SMALL, alike, levels_apart, renderer, small_faces

FACES = 24


def test_labels_without_rendering_are_those_of_the_faces() -> None:
    faces = small_faces()
    indices = [23, 0, 7, 4]
    labels, batch, truth = faces.labels(indices), faces.batch(indices), faces.truth(indices)
    assert torch.equal(labels.identities, batch.identities)
    assert torch.equal(labels.ages, batch.ages)
    assert torch.equal(truth.factors.ages, labels.ages)
    assert torch.equal(truth.factors.traits.gender, batch.genders)
    assert torch.equal(truth.images, batch.images)
    assert batch.indices.tolist() == indices
    assert labels.identities.tolist() == [5, 0, 1, 1]
    assert batch.images.dtype == torch.uint8
    samples = faces.__getitems__(indices)
    for row, (index, sample) in enumerate(zip(indices, samples, strict=True)):
        assert torch.equal(sample.image, batch.images[row])
        known = (int(labels.identities[row]), int(batch.genders[row]), index)
        assert (sample.identity, sample.gender, sample.index) == known
        assert sample.age == float(labels.ages[row])
        alone = faces[index]
        assert alone[1:] == sample[1:]
        assert alike(alone.image, sample.image)
    assert faces[-1].index == FACES - 1 == len(faces) - 1
    assert collate_faces(samples).images.shape == (4, 3, 48, 48)


@given(order=st.lists(st.integers(0, FACES - 1), min_size=1, max_size=4))
@settings(max_examples=8)
def test_company_and_order_do_not_matter(order: list[int]) -> None:
    faces = small_faces()
    first, again = faces.batch(order), faces.batch(order)
    assert torch.equal(first.images, again.images)
    for row, index in enumerate(order):
        assert alike(first.images[row], faces[index].image)


@given(people=st.integers(1, 1000), share=st.integers(1, 40), low=st.integers(0, 99), span=st.integers(1, 100))
def test_faces_of_a_person_are_spread_over_equal_parts_of_the_ages(
    people: int, share: int, low: int, span: int
) -> None:
    faces = SyntheticFaces.__new__(SyntheticFaces)  # labels need no renderer
    faces.num_identities, faces.faces_per_identity = people, share
    high = min(100, low + span)
    faces.age_range, faces.seed, faces.first_identity = (float(low), float(high)), 11, 2
    labels = faces.labels(range((people - 1) * share, people * share))
    assert (labels.identities == people - 1).all()
    parts = torch.arange(share + 1) * (high - low) / share + low
    assert (labels.ages >= parts[:-1] - 1e-4).all()
    assert (labels.ages <= parts[1:] + 1e-4).all()


def test_data_sets_that_do_not_overlap_share_no_person() -> None:
    """They are slices of one population: people and pictures are those of one long data set."""
    whole, second = small_faces(6), small_faces(3, first_identity=3)
    indices = list(range(0, 12, 3))
    later = whole.truth([12 + index for index in indices])
    same = second.truth(indices)
    for one, other in zip(later.factors.traits, same.factors.traits, strict=True):
        assert torch.equal(one, other)
    assert alike(later.images, same.images)
    people = torch.cat((whole.truth([0, 4, 8]).factors.traits.changes, second.truth([0, 4, 8]).factors.traits.changes))
    assert torch.pdist(people).min() > 0.5
    assert torch.equal(second.labels(indices).identities, torch.tensor(indices) // 4)


def test_a_person_keeps_traits_and_looks_through_life() -> None:
    factors = small_faces().truth([4, 5, 6, 7]).factors
    for value in (*factors.traits, *factors.appearance):
        assert torch.equal(value, value[:1].expand_as(value))
    assert factors.ages.diff().min() > 0


@pytest.mark.dist
def test_worker_processes_render_the_same_faces() -> None:
    faces = small_faces()
    loader = torch.utils.data.DataLoader(faces, batch_size=5, num_workers=2, collate_fn=collate_faces)
    batches = list(loader)
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(FACES))
    here = faces.batch(range(FACES))
    assert alike(torch.cat([batch.images for batch in batches]), here.images)
    assert torch.equal(torch.cat([batch.ages for batch in batches]), here.ages)


def test_data_sets_survive_pickling() -> None:
    faces = small_faces(2)
    copy = pickle.loads(pickle.dumps(faces))
    assert len(copy) == 8
    assert torch.equal(copy[5].image, faces[5].image)
    assert copy[5][1:] == faces[5][1:]


def test_no_faces_are_an_empty_batch() -> None:
    batch = small_faces().batch([])
    assert batch.images.shape == (0, 3, 48, 48)
    assert [len(column) for column in batch] == [0] * 5
    assert small_faces().__getitems__([]) == []
    truth = small_faces().truth(torch.zeros(0, dtype=torch.int64))
    assert truth.landmarks.shape == (0, 5, 2)
    assert truth.depth.shape == truth.mask.shape == (0, 48, 48)


def test_crops_aligned_by_the_truth_cannot_be_aligned_better() -> None:
    who, ages = torch.arange(20), torch.linspace(0, 100, 20)
    exact, rough = renderer(detector_spread=0.0), renderer()
    landmarks = exact.landmarks(exact.draw(who, ages, who))
    target = SMALL.tensor(dtype=torch.float32)
    left = estimate_similarity(landmarks, target).matrices
    torch.testing.assert_close(left, torch.eye(2, 3).expand(20, -1, -1), rtol=0, atol=2e-3)
    shift = (rough.landmarks(rough.draw(who, ages, who)) - landmarks).norm(dim=-1)
    eyes = (landmarks[:, 1] - landmarks[:, 0]).norm(dim=-1).mean()
    assert 0.005 * eyes < shift.mean() < 0.08 * eyes


def test_landmarks_are_known_without_rendering() -> None:
    faces = small_faces()
    truth = faces.truth(range(0, FACES, 3))
    assert torch.equal(faces.renderer.landmarks(truth.factors), truth.landmarks)


def test_depth_is_known_where_the_head_covers_pixels() -> None:
    truth = small_faces().truth(range(FACES))
    covered = truth.mask > 0
    assert truth.mask.min() >= 0
    assert truth.mask.max() <= 1
    assert torch.equal(truth.depth.isfinite(), covered)
    assert (truth.depth[~covered] == torch.inf).all()
    assert 0.4 < covered.float().mean() < 0.95
    assert truth.depth[covered].min() > 10
    for depth, mask in zip(truth.depth, truth.mask, strict=True):
        inside = depth[mask == 1]
        assert inside.max() - inside.min() < 40  # centimetres of one head
    x, y = truth.landmarks.round().long().unbind(-1)
    at = truth.mask[torch.arange(FACES)[:, None], y.clamp(0, 47), x.clamp(0, 47)]
    assert at[:, :3].mean() > 0.99


def test_one_factor_can_change_alone() -> None:
    """The same picture a decade later, and in another light."""
    faces = renderer()
    first = faces.render(faces.draw(torch.tensor([7]), torch.tensor([30.0]), torch.tensor([2])))
    again = faces.render(first.factors)
    assert torch.equal(first.images, again.images)
    older = faces.render(first.factors._replace(ages=torch.tensor([75.0])))
    assert levels_apart(first.images, older.images) > 20
    lit = faces.render(first.factors._replace(light=faces.draw(*[torch.tensor([9])] * 3).light))
    assert torch.equal(lit.landmarks, first.landmarks)
    assert torch.equal(lit.mask, first.mask)
    assert torch.equal(moved(first.factors, torch.device("cpu")).ages, first.factors.ages)
