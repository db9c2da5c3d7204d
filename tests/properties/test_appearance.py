from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facemtl.data.synthetic.appearance_factors import AppearanceFactors, Beard, HairStyle, draw_appearance
from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.hair import hair_amounts
from facemtl.data.synthetic.person import Traits, draw_traits
from tests.synthetic_faces import MAP_SIZE, appearance, surface_maps
from tests.synthetic_heads import head_model, people

seeds = st.integers(0, 2**64 - 1)
identities = st.lists(st.integers(0, 2**62), min_size=1, max_size=5)
RANGES = {
    "melanin": (0.03, 1.3), "blood": (0.05, 1), "lip_red": (0, 1), "freckles": (0, 1), "hair_dark": (0.06, 1),
    "hair_red": (0, 1), "hair_volume": (0.4, 1.6), "hairline": (-1.2, 1.2), "hair_length": (7, 19),
    "brow_thickness": (0.45, 1.6), "brow_place": (-0.5, 0.5), "wrinkling": (0.4, 1.7), "grey_age": (34, 70),
    "balding": (0, 1), "shift": (0, 1), "eye_shade": (-2.6, 2.6), "eye_colour": (0, 3), "hair_style": (0, 7),
    "beard": (0, 4), "moles": (-9.01, 5.01),
}  # fmt: skip


def looks(count: int, *, seed: int = 0, start: int = 0) -> tuple[AppearanceFactors, Traits]:
    traits = people(count, seed=seed, start=start)
    return draw_appearance(seed, torch.arange(start, start + count), traits), traits


def repeated(count: int, **changes: Tensor) -> tuple[AppearanceFactors, Traits]:
    """One person again and again, but for ``changes``."""
    factors, traits = looks(1, start=3)
    many = AppearanceFactors(*(value.repeat(count, *[1] * (value.dim() - 1)) for value in factors))
    return many._replace(**changes), Traits(*(value.repeat(count, *[1] * (value.dim() - 1)) for value in traits))


def rises(values: Tensor, *, slack: float = 1e-6) -> bool:
    return bool((values.diff() >= -slack).all()) and bool(values[-1] > values[0])


@given(seed=seeds, who=identities)
def test_looks_depend_on_seed_and_identity_alone(seed: int, who: list[int]) -> None:
    names = head_model().change_names
    at = torch.tensor(who)
    together = draw_appearance(seed, at, draw_traits(seed, at, names))
    for row in range(len(who)):
        alone = draw_appearance(seed, at[row : row + 1], draw_traits(seed, at[row : row + 1], names))
        for one, other in zip(together, alone, strict=True):
            assert torch.equal(one[row], other[0])
    for name, value in together._asdict().items():
        low, high = RANGES[name]
        assert value.min() >= low, name
        assert value.max() <= high, name


def test_the_looks_of_a_seed_stay_as_they_are() -> None:
    factors, _ = looks(4)
    assert factors.hair_style.tolist() == [5, 1, 1, 3]
    assert factors.beard.tolist() == [0, 0, 0, 4]
    assert factors.eye_colour.tolist() == [3, 3, 1, 1]
    for name, values in (
        ("melanin", [0.0880, 0.2222, 0.1063, 0.1563]),
        ("hair_dark", [0.8779, 0.9526, 0.5746, 0.3616]),
        ("grey_age", [36.4658, 45.2140, 59.9333, 51.6263]),
        ("balding", [0.0542, 0.0868, 0.7595, 0.4575]),
    ):
        assert getattr(factors, name).tolist() == pytest.approx(values, abs=2e-4), name


def test_looks_go_with_sex_and_ancestry() -> None:
    factors, traits = looks(1500, seed=9)
    main, male = traits.ancestry.argmax(1), traits.gender == 1
    melanin = [float(factors.melanin[main == one].median()) for one in range(3)]
    assert melanin[0] > 3 * melanin[1]
    assert melanin[1] > melanin[2]
    blue = factors.eye_colour == 0
    assert 0.2 < blue[main == 2].float().mean() < 0.45
    assert blue[main != 2].float().mean() < 0.06
    long = factors.hair_style == int(HairStyle.LONG)
    assert long[~male].float().mean() > 4 * long[male].float().mean() > 0
    assert factors.balding[male].mean() > 4 * factors.balding[~male].mean()
    assert set(factors.hair_style.tolist()) == set(range(8))
    assert set(factors.beard[male].tolist()) == set(range(5))
    has_mole = factors.moles[..., 2] > 0
    assert 0.2 < has_mole.float().mean() < 0.36  # a radius beyond 0.72 of its range
    assert factors.moles[..., 2].max() < 0.15


@pytest.mark.parametrize("style", list(HairStyle))
def test_maps_are_colours_at_every_age_with_every_hair_and_beard(style: HairStyle) -> None:
    count = 10
    factors, traits = looks(count, seed=1, start=10 * int(style))
    factors = factors._replace(hair_style=torch.full((count,), int(style)), beard=torch.arange(count) % 5)
    traits = traits._replace(gender=torch.arange(count) // 5)
    ages = torch.tensor([0.0, 3, 12, 17, 20, 40, 60, 80, 99, 100]).roll(3 * int(style))
    hair = appearance().hair(factors, traits, ages)
    assert hair.cover.min() >= 0
    assert hair.cover.max() <= 1
    vertices = head_model()(traits, ages)
    heads = appearance()(factors, traits, ages, head_model(), vertices)
    assert heads.maps.shape == (count, 6, MAP_SIZE, MAP_SIZE)
    assert heads.maps.isfinite().all()
    assert heads.maps[:, :3].min() > 0
    assert heads.maps[:, :3].max() < 1
    assert heads.maps[:, 4:].min() >= 0
    assert heads.maps[:, 4:].max() <= 1
    assert heads.maps[:, 3].abs().max() < 0.6
    assert heads.vertices.isfinite().all()
    raised = (heads.vertices[:, : vertices.shape[1]] - vertices).norm(dim=-1)
    assert raised.max() < 8
    assert torch.equal(heads.landmarks, head_model().landmarks(vertices))  # hair moves no landmark


def test_a_person_is_painted_alone_as_in_company() -> None:
    factors, traits = looks(6)
    ages = torch.tensor([2.0, 20, 35, 50, 70, 95])
    together = appearance().paint(factors, traits, ages)
    for row in range(6):
        one = slice(row, row + 1)
        alone = appearance().paint(
            AppearanceFactors(*(value[one] for value in factors)), Traits(*(value[one] for value in traits)), ages[one]
        )
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=2e-5)


def test_nobody_is_painted_as_no_maps() -> None:
    factors, traits = looks(0)
    assert appearance().paint(factors, traits, torch.zeros(0)).shape == (0, 6, MAP_SIZE, MAP_SIZE)


def test_wrinkles_deepen_greyness_and_recession_rise_with_age() -> None:
    ages = torch.arange(18.0, 101, 4)
    factors, traits = repeated(len(ages), balding=torch.full((len(ages),), 0.8))
    x, y, z = surface_maps().positions.unbind(-1)
    forehead = (x.abs() < 2.5) & (y > 2.8) & (y < 5) & (z > -5) & (surface_maps().islands == int(Island.HEAD))
    assert forehead.sum() > 50
    skin = appearance().skin(factors, ages)
    depth = skin.height[:, forehead].std(1)
    assert rises(depth)
    assert depth[-1] > 3 * depth[0]
    grey, recession, fullness = hair_amounts(factors, traits._replace(gender=torch.ones_like(traits.gender)), ages)
    assert rises(grey)
    assert rises(recession)
    assert rises(-fullness)
    assert grey[0] < 0.01
    assert grey[-1] > 0.98


def test_what_hair_shows_of_age() -> None:
    """Dark hair grows lighter, a balding man's forehead higher, each with the years."""
    ages = torch.arange(20.0, 91, 10)
    ones = torch.ones(len(ages))
    factors, traits = repeated(
        len(ages), balding=ones, hair_dark=ones, hair_style=torch.full((len(ages),), int(HairStyle.SHORT))
    )
    traits = traits._replace(gender=torch.ones(len(ages), dtype=torch.int64))
    hair = appearance().hair(factors, traits, ages)
    x, y, z = surface_maps().positions.unbind(-1)
    scalp = (y > 4) & (surface_maps().islands == int(Island.HEAD))
    assert rises(hair.albedo[:, :, scalp].mean((1, 2)))
    front = scalp & (z > -9) & (x.abs() < 6)
    cover = hair.cover[:, front].mean(1)
    assert rises(-cover)
    assert cover[-1] < 0.6 * cover[0]


def test_only_grown_men_have_beards() -> None:
    kinds = torch.tensor([int(kind) for kind in Beard])
    x, y, z = surface_maps().positions.unbind(-1)
    chin = (x.abs() < 1.5) & (y < -9.5) & (y > -11) & (z > -4) & (surface_maps().islands == int(Island.HEAD))
    assert chin.sum() > 20
    factors, traits = repeated(5, beard=kinds, hair_dark=torch.ones(5))
    for gender, age in ((0, 40.0), (0, 80.0), (1, 8.0), (1, 14.0), (0, 0.0)):
        who = traits._replace(gender=torch.full((5,), gender))
        cover = appearance().hair(factors, who, torch.full((5,), age)).cover
        assert torch.equal(cover, cover[:1].expand_as(cover)), (gender, age)
        assert cover[:, chin].max() == 0
    man = traits._replace(gender=torch.ones(5, dtype=torch.int64))
    cover = appearance().hair(factors, man, torch.full((5,), 30.0)).cover[:, chin].mean(1)
    shaved, stubble, moustache, goatee, full = cover.tolist()
    assert 0 < shaved < stubble < min(goatee, full)
    assert moustache == pytest.approx(shaved, abs=0.02)
    assert full > 0.5
    growing = appearance().hair(
        repeated(4, beard=torch.full((4,), int(Beard.FULL)))[0],
        Traits(*(value[:4] for value in man)),
        torch.tensor([15.0, 17.0, 19.0, 21.0]),
    )
    assert rises(growing.cover[:, chin].mean(1))


@pytest.mark.parametrize("mark", ["freckles", "moles"])
def test_freckles_and_moles_stay_where_they_are(mark: str) -> None:
    ages = torch.tensor([6.0, 25.0, 50.0, 85.0])
    moles = torch.zeros(4, 4, 3)
    with_marks, without = torch.ones(4), torch.zeros(4)
    if mark == "moles":
        with_marks, without = moles.clone(), moles
        with_marks[:, 0] = torch.tensor([2.0, -4.0, 0.4])
        with_marks[:, 1] = torch.tensor([-1.0, 0.5, 0.3])
    marked, _ = repeated(4, **{mark: with_marks})
    plain, _ = repeated(4, **{mark: without})
    skin = appearance().skin
    added = skin(marked, ages).absorbance - skin(plain, ages).absorbance
    assert added.min() > -1e-5
    assert added.amax((1, 2, 3)).min() > 0.2
    torch.testing.assert_close(added, added[:1].expand_as(added), rtol=0, atol=1e-5)
    if mark == "moles":
        spots = (added[0, 1] > 0.5) & (surface_maps().islands == int(Island.HEAD))
        places = surface_maps().positions[spots][:, :2]
        distance = torch.cdist(places, with_marks[0, :2, :2]).amin(1)
        assert len(places) >= 3
        assert distance.max() < 0.53


def test_no_two_people_have_the_same_freckles() -> None:
    factors, _ = repeated(2, freckles=torch.ones(2), shift=torch.tensor([[0.1, 0.2], [0.6, 0.35]]))
    plain, _ = repeated(2, freckles=torch.zeros(2), shift=factors.shift)
    ages = torch.full((2,), 25.0)
    added = (appearance().skin(factors, ages).absorbance - appearance().skin(plain, ages).absorbance)[:, 1]
    shared = torch.corrcoef(added.flatten(1))[0, 1]
    assert shared < 0.4
