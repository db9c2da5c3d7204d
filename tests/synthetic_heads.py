"""Heads for tests: the model once, the average adult's points, and people who differ in what a test says."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.head_model import HeadModel
from facemtl.data.synthetic.person import AGEING_RATES, Traits, draw_traits


@cache
def head_model() -> HeadModel:
    return HeadModel()


def people(count: int, *, seed: int = 0, start: int = 0) -> Traits:
    return draw_traits(seed, torch.arange(start, start + count), head_model().change_names)


def average_people(count: int) -> Traits:
    """People without anything of their own."""
    head = head_model()
    return Traits(
        gender=torch.ones(count, dtype=torch.int64),
        masculinity=torch.full((count,), 0.5),
        ancestry=torch.full((count, 3), 1 / 3),
        fatness=torch.zeros(count),
        changes=torch.zeros(count, len(head.change_names)),
        ageing=torch.ones(count, len(AGEING_RATES)),
    )


def vertices_of(*islands: Island) -> Tensor:
    """Numbers of the vertices of islands."""
    head = head_model()
    return head.triangles[torch.isin(head.islands, torch.tensor([int(island) for island in islands]))].unique()


class Measure(NamedTuple):
    """A distance between two points of anthropometry."""

    name: str
    first: int
    second: int
    spread: float
    """Standard deviation in millimetres over adults of one sex and ancestry, after Farkas (1994) and the like."""


@cache
def measures() -> tuple[Measure, ...]:
    """Points found on the average adult, where x is to the right and the eyes are at the origin's height."""
    head = head_model()
    adult = head.average_adult()
    skin = vertices_of(Island.HEAD)
    places = adult[skin]
    x, y, z = places.unbind(1)

    def widest(inside: Tensor, side: int) -> int:
        chosen = inside & (side * x > 0)
        return int(skin[chosen][(side * places[chosen, 0]).argmax()])

    def on_profile(height: float) -> int:
        chosen = (x.abs() < 0.05) & (z > 0)
        return int(skin[chosen][(places[chosen, 1] - height).abs().argmin()])

    def eye_corner(side: int, *, outer: bool) -> int:
        lids = vertices_of(Island.RIGHT_LIDS if side > 0 else Island.LEFT_LIDS)
        rim = skin[torch.isin(skin, lids)]
        along = side * adult[rim, 0]
        return int(rim[along.argmax() if outer else along.argmin()])

    left_eye, right_eye, nose, left_mouth, right_mouth = head.landmark_vertices.tolist()
    cheek = (y > -4) & (y < -2) & (z > -5)
    jaw = (y > -9) & (y < -7.5) & (z > -7) & (x.abs() < 7.5)
    wing = (y > -5) & (y < -4) & (z > 1) & (x.abs() < 2.4)
    chin, nose_base, nasion = on_profile(-11.76), on_profile(-5.27), on_profile(-0.52)
    return (
        Measure("between the pupils", left_eye, right_eye, 3.3),
        Measure("between the inner eye corners", eye_corner(-1, outer=False), eye_corner(1, outer=False), 2.6),
        Measure("between the outer eye corners", eye_corner(-1, outer=True), eye_corner(1, outer=True), 4.3),
        Measure("width of an eye", eye_corner(1, outer=True), eye_corner(1, outer=False), 1.4),
        Measure("width of the nose", widest(wing, -1), widest(wing, 1), 2.7),
        Measure("height of the nose", nasion, nose_base, 3.4),
        Measure("depth of the nose", nose, nose_base, 1.9),
        Measure("width of the mouth", left_mouth, right_mouth, 3.4),
        Measure("height of the face", nasion, chin, 6.0),
        Measure("height of the lower face", nose_base, chin, 5.0),
        Measure("width between the cheek bones", widest(cheek, -1), widest(cheek, 1), 4.8),
        Measure("width of the jaw", widest(jaw, -1), widest(jaw, 1), 5.5),
    )
