from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facemtl.data.synthetic.ageing_shape import anchor_weights, childhood_share, late_share
from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.expression import draw_actions
from facemtl.data.synthetic.head_asset import ANCHOR_YEARS
from facemtl.data.synthetic.head_model import fatness_at
from facemtl.data.synthetic.person import AGEING_RATES, Traits, draw_traits
from facemtl.data.synthetic.shape_spread import asymmetry_of, spread_of
from tests.synthetic_heads import average_people, head_model, measures, people, vertices_of

seeds = st.integers(0, 2**64 - 1)
identities = st.lists(st.integers(0, 2**62), min_size=1, max_size=5)
years = st.floats(0.0, 100.0, width=32)


@given(seed=seeds, who=identities)
def test_a_person_depends_on_seed_and_identity_alone(seed: int, who: list[int]) -> None:
    names = head_model().change_names
    together = draw_traits(seed, torch.tensor(who), names)
    for row, identity in enumerate(who):
        alone = draw_traits(seed, torch.tensor([identity]), names)
        for one, other in zip(together, alone, strict=True):
            assert torch.equal(one[row], other[0])


@given(seed=seeds, faces=identities)
def test_an_expression_depends_on_seed_and_face_alone(seed: int, faces: list[int]) -> None:
    names = head_model().action_names
    together = draw_actions(seed, torch.tensor(faces), names)
    assert together.min() >= 0
    assert together.max() <= 1
    for row, face in enumerate(faces):
        assert torch.equal(draw_actions(seed, torch.tensor([face]), names)[0], together[row])


def fingerprint(values: Tensor) -> str:
    return hashlib.sha256((values.double() * 1000).round().to(torch.int32).numpy().tobytes()).hexdigest()[:16]


def test_the_people_of_a_seed_stay_who_they_are() -> None:
    traits = people(64, seed=7)
    assert {name: fingerprint(getattr(traits, name)) for name in Traits._fields} == {
        "gender": "4218f623caa5f42b",
        "masculinity": "6ea0796586f02fe7",
        "ancestry": "aea93cb20d4f6dcf",
        "fatness": "23db9b4eea8d34b7",
        "changes": "1ad8eb728f52da81",
        "ageing": "f0f30ce0540fdacb",
    }
    assert fingerprint(draw_actions(7, torch.arange(64), head_model().action_names)) == "3f60fcb9fc2164ad"


def test_people_are_of_both_sexes_and_all_ancestries() -> None:
    traits = people(3000)
    assert 0.45 < traits.gender.double().mean() < 0.55
    assert torch.allclose(traits.ancestry.sum(1), torch.ones(3000), atol=1e-6)
    assert traits.ancestry.mean(0).min() > 0.28
    assert (traits.masculinity[traits.gender == 1] > 0.5).all()
    assert (traits.masculinity[traits.gender == 0] < 0.5).all()
    assert traits.changes.abs().max() <= 1
    assert traits.fatness.abs().max() <= 1
    assert traits.ageing.min() >= 0.3


def test_changes_spread_as_their_table_says() -> None:
    traits = people(3000, seed=3)
    for column, name in enumerate(head_model().change_names):
        expected = (spread_of(name) ** 2 + asymmetry_of(name) ** 2) ** 0.5
        # numbers cut off at 2.5 standard deviations spread by 0.95 of one
        assert traits.changes[:, column].std() == pytest.approx(0.955 * expected, rel=0.08)


@pytest.mark.parametrize("measure", measures(), ids=lambda measure: measure.name)
def test_faces_differ_as_much_as_anthropometry_says(measure: tuple[str, int, int, float]) -> None:
    _, first, second, spread = measure
    traits = people(400, seed=1)._replace(masculinity=torch.full((400,), 0.5), ancestry=torch.full((400, 3), 1 / 3))
    vertices = head_model()(traits, torch.full((400,), 25.0))
    distances = 10 * (vertices[:, first] - vertices[:, second]).norm(dim=-1)
    assert 0.65 * spread < distances.std() < 1.35 * spread


@given(age=years, later=years)
def test_weights_of_ages_are_shares(age: float, later: float) -> None:
    ages = torch.tensor([min(age, later), max(age, later)], dtype=torch.float64)
    weights = anchor_weights(ages)
    assert torch.allclose(weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert weights.min() >= 0
    assert (weights > 0).sum(1).max() <= 2
    rank = weights @ torch.arange(len(ANCHOR_YEARS), dtype=torch.float64)
    assert rank[0] <= rank[1] + 1e-12
    assert childhood_share(ages)[0] >= childhood_share(ages)[1]
    assert late_share(ages)[0] <= late_share(ages)[1]


def test_late_changes_come_between_28_and_80() -> None:
    share = late_share(torch.tensor([0.0, 28.0, 45.0, 60.0, 80.0, 100.0]))
    assert share[:2].tolist() == [0, 0]
    assert 0.2 < share[2] < 0.35
    assert 0.5 < share[3] < 0.65
    assert share[4] == pytest.approx(1.0)
    assert 1.2 < share[5] < 1.5


def test_children_look_more_alike_than_adults() -> None:
    def spread(age: float) -> float:
        return float(front_shapes(head_model()(people(300), torch.full((300,), age))).norm(dim=1).mean())

    assert spread(3.0) < 0.75 * spread(18.0)
    assert spread(9.0) < 0.95 * spread(18.0)
    assert spread(60.0) == pytest.approx(spread(18.0), rel=0.05)


def test_anchors_are_met_at_their_years() -> None:
    assert torch.equal(anchor_weights(torch.tensor(ANCHOR_YEARS)), torch.eye(len(ANCHOR_YEARS)))


def sizes(vertices: Tensor) -> Tensor:
    """Width, height and depth of heads without necks, and the distance between their pupils: ``(batch, 4)``."""
    skin = vertices[:, vertices_of(Island.HEAD)]
    pupils = head_model().landmarks(vertices)[:, :2, 0].diff(dim=1)
    return torch.cat((skin.amax(1) - skin.amin(1), pupils), 1)


@given(start=st.integers(0, 2**40))
def test_heads_grow_until_18_and_little_then(start: int) -> None:
    traits = people(4, start=start)
    grown = torch.stack(
        [sizes(head_model()(traits, torch.full((4,), age))) for age in (0.0, 2.0, 5.0, 9.0, 13.0, 18.0)]
    )
    assert (grown.diff(dim=0) > 0).all()
    for age in (25.0, 40.0, 60.0):
        later = sizes(head_model()(traits, torch.full((4,), age)))
        assert ((later / grown[-1] - 1).abs() < 0.10).all()


@given(start=st.integers(0, 2**40), age=st.floats(0.0, 99.0))
def test_ageing_has_no_jumps(start: int, age: float) -> None:
    traits = people(4, start=start)
    now, soon = (head_model()(traits, torch.full((4,), years)) for years in (age, age + 0.05))
    per_year = (soon - now).norm(dim=-1).amax() / 0.05
    assert per_year < (4.5 if age < 2 else 1.8)  # centimetres; in the second year the neck appears


def front_shapes(vertices: Tensor) -> Tensor:
    """Faces (without ears and skull) of one size, about the mean of all."""
    adult = head_model().average_adult()
    skin = vertices_of(Island.HEAD)
    faces = vertices[:, skin[adult[skin, 2] > -5]]
    faces = faces - faces.mean(1, keepdim=True)
    faces = (faces / faces.norm(dim=(1, 2), keepdim=True)).flatten(1)
    return faces - faces.mean(0)


@pytest.mark.parametrize(("young", "old"), [(22.0, 52.0), (30.0, 60.0), (45.0, 75.0), (10.0, 40.0)])
def test_a_person_is_the_same_thirty_years_later(young: float, old: float) -> None:
    traits = people(300, seed=5)
    before, after = (front_shapes(head_model()(traits, torch.full((300,), age))) for age in (young, old))
    distances = torch.cdist(before, after)
    assert (distances.argmin(1) == torch.arange(300)).double().mean() > 0.98
    others = distances[~torch.eye(300, dtype=torch.bool)]
    assert distances.diag().mean() < (0.2 if young > 18 else 0.4) * others.mean()


def test_people_age_in_their_own_ways() -> None:
    one = people(1)
    fast = one._replace(ageing=one.ageing * 1.5)
    for age, least, most in ((20.0, 0.0, 1e-6), (75.0, 0.05, 2.0)):
        difference = head_model()(fast, torch.tensor([age])) - head_model()(one, torch.tensor([age]))
        assert least <= difference.norm(dim=-1).max() <= most


def test_fat_faces_are_wide_and_thin_ones_narrow() -> None:
    jaw = next(measure for measure in measures() if measure.name == "width of the jaw")
    fatness = torch.tensor([-0.8, 0.0, 0.8])
    vertices = head_model()(average_people(3)._replace(fatness=fatness), torch.full((3,), 22.0))
    width = 10 * (vertices[:, jaw.first] - vertices[:, jaw.second]).norm(dim=-1)
    assert 2 < width[1] - width[0] < 15
    assert 2 < width[2] - width[1] < 15
    pupils = head_model().landmarks(vertices)[:, :2]
    assert torch.allclose(pupils, pupils[1].expand(3, 2, 3), atol=0.05)


def test_people_put_on_weight_in_their_own_ways() -> None:
    traits = average_people(2)
    traits.ageing[:, AGEING_RATES.index("fattening")] = torch.tensor([0.6, 1.4])
    young, old, oldest = (fatness_at(traits, torch.full((2,), age)) for age in (20.0, 60.0, 95.0))
    assert young.tolist() == [0, 0]
    assert 0 < old[0] < old[1]
    assert (oldest < old).all()


def mirrored() -> Tensor:
    """Of each vertex, the one on the other side of the average adult."""
    adult = head_model().average_adult()
    distances, others = torch.cdist(adult * torch.tensor([-1.0, 1, 1]), adult).min(1)
    assert distances.max() < 0.01
    return others


@given(start=st.integers(0, 2**40), age=years)
def test_without_asymmetry_left_equals_right(start: int, age: float) -> None:
    head = head_model()
    traits = people(2, start=start)
    changes = traits.changes.clone()
    for column, name in enumerate(head.change_names):
        if name.startswith("r-"):
            changes[:, column] = changes[:, head.change_names.index(f"l-{name[2:]}")]
        if name.endswith("trans-out") and name.startswith(("nose", "mouth")):
            changes[:, column] = 0
    ages = torch.full((2,), age)
    vertices = head(traits._replace(changes=changes), ages)
    reflected = vertices[:, mirrored()] * torch.tensor([-1.0, 1, 1])
    assert (vertices - reflected).norm(dim=-1).max() < 0.02
    uneven = head(traits, ages)
    assert (uneven - uneven[:, mirrored()] * torch.tensor([-1.0, 1, 1])).norm(dim=-1).max() > 0.02


@given(start=st.integers(0, 2**40), age=years)
def test_landmarks_are_in_order_and_on_the_face(start: int, age: float) -> None:
    head = head_model()
    actions = draw_actions(0, torch.arange(start, start + 4), head.action_names)
    vertices = head(people(4, start=start), torch.full((4,), age), actions)
    left_eye, right_eye, nose, left_mouth, right_mouth = head.landmarks(vertices).unbind(1)
    assert (left_eye[:, 0] < nose[:, 0]).all()
    assert (nose[:, 0] < right_eye[:, 0]).all()
    assert (left_mouth[:, 0] < nose[:, 0]).all()
    assert (nose[:, 0] < right_mouth[:, 0]).all()
    assert (torch.minimum(left_eye, right_eye)[:, 1] > nose[:, 1]).all()
    assert (nose[:, 1] > torch.maximum(left_mouth, right_mouth)[:, 1]).all()
    front = vertices[:, vertices_of(Island.HEAD), 2].amax(1)
    assert (front - nose[:, 2] < 0.6).all()


def spheres(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centres ``(batch, 3)`` and radii ``(batch, 1)`` that fit best."""
    system = torch.cat((2 * points, torch.ones_like(points[..., :1])), -1)
    solution = torch.linalg.lstsq(system, (points**2).sum(-1, keepdim=True)).solution[..., 0]
    centres = solution[:, :3]
    return centres, (solution[:, 3:] + (centres**2).sum(-1, keepdim=True)).sqrt()


@pytest.mark.parametrize("age", [0.0, 1.0, 3.0, 8.0, 15.0, 25.0, 50.0, 85.0, 100.0])
@pytest.mark.parametrize(("eye", "lids"), [(Island.LEFT_EYE, Island.LEFT_LIDS), (Island.RIGHT_EYE, Island.RIGHT_LIDS)])
def test_eyes_are_in_their_sockets(age: float, eye: Island, lids: Island) -> None:
    head = head_model()
    skin = vertices_of(Island.HEAD)
    adult = head.average_adult().double()
    centre, radius = spheres(adult[None, vertices_of(eye)])
    clearance = (adult[skin] - centre).norm(dim=1) - radius[0]
    cover = skin[(clearance > 0.1) & (clearance < 0.5) & (adult[skin, 2] > -1.5)]  # the lids over the eyeball
    assert len(cover) > 30
    vertices = head(people(100), torch.full((100,), age)).double()
    centre, radius = spheres(vertices[:, vertices_of(eye)])
    fit = (vertices[:, vertices_of(eye)] - centre[:, None]).norm(dim=-1) / radius - 1
    assert fit.abs().max() < (0.06 if age > 0 else 0.11)  # the newborn's are not quite round
    clearance = (vertices[:, cover] - centre[:, None]).norm(dim=-1) - radius
    # hardly a vertex of a lid is inside the eyeball; of the babies' lids, MakeHuman put 1 % there, by 0.2 mm
    assert (clearance < 0).double().mean() < (0.005 if age > 1 else 0.02)
    assert clearance.min() > -0.16
    assert clearance.max() < 1.0
    rim = skin[torch.isin(skin, vertices_of(lids))]
    assert ((vertices[:, rim].mean(1) - vertices[:, vertices_of(eye)].mean(1)).norm(dim=-1) < 0.35 * radius[:, 0]).all()


@pytest.mark.parametrize("name", ["eyeLookUpLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft"])
def test_gaze_turns_the_eye_and_leaves_it_round(name: str) -> None:
    head = head_model()
    actions = torch.zeros(1, len(head.action_names))
    actions[0, head.action_names.index(name)] = 0.5
    ages = torch.tensor([30.0])
    still, turned = (head(average_people(1), ages, given) for given in (None, actions))
    own_left = vertices_of(Island.RIGHT_EYE)  # the person's left is the viewer's right
    centre, radius = spheres(turned[:, own_left].double())
    assert ((turned[:, own_left] - centre[:, None]).norm(dim=-1) / radius - 1).abs().max() < 0.04
    moved = (turned - still)[0, head.landmark_vertices[1]]
    axis, sign = {"Up": (1, 1), "Down": (1, -1), "In": (0, -1), "Out": (0, 1)}[
        name.removeprefix("eyeLook").removesuffix("Left")
    ]
    assert sign * moved[axis] > 0.1
    assert torch.equal(turned[:, vertices_of(Island.LEFT_EYE)], still[:, vertices_of(Island.LEFT_EYE)])


def test_expressions_are_mostly_calm() -> None:
    head = head_model()
    actions = draw_actions(0, torch.arange(2000), head.action_names)
    of = {name: actions[:, column] for column, name in enumerate(head.action_names)}
    smiling = (of["mouthSmileLeft"] > 0.15).double().mean()
    assert 0.3 < smiling < 0.5
    assert (of["eyeBlinkLeft"] > 0.2).double().mean() < 0.1
    assert of["jawOpen"].max() < 0.2
    assert torch.minimum(of["eyeLookInLeft"], of["eyeLookOutLeft"]).max() < 0.07  # nobody looks both ways


def test_gradients_reach_person_age_and_expression() -> None:
    head = head_model()
    traits = people(2)
    changes, fatness = (getattr(traits, name).clone().requires_grad_() for name in ("changes", "fatness"))
    ages = torch.tensor([9.0, 47.0], requires_grad=True)
    actions = torch.full((2, len(head.action_names)), 0.1, requires_grad=True)
    vertices = head(traits._replace(changes=changes, fatness=fatness), ages, actions)
    vertices.square().sum().backward()
    for leaf in (changes, fatness, ages, actions):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).double().mean() > 0.95


def test_expression_adds_the_same_to_everybody() -> None:
    head = head_model()
    actions = draw_actions(3, torch.arange(5), head.action_names)
    ages = torch.tensor([4.0, 18.0, 33.0, 58.0, 91.0])
    offsets = head(people(5), ages, actions) - head(people(5), ages)
    again = head(average_people(5), ages, actions) - head(average_people(5), ages)
    assert torch.allclose(offsets, again, atol=1e-4)
