"""Painters, renderers and data sets of small faces, made once, for tests of synthetic faces."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from facemtl.alignment.templates import FaceTemplate
from facemtl.data.synthetic.appearance import Appearance
from facemtl.data.synthetic.faces import SyntheticFaces
from facemtl.data.synthetic.renderer import FaceRenderer
from facemtl.data.synthetic.surface_maps import SurfaceMaps, draw_surface_maps
from tests.synthetic_heads import head_model

SMALL = FaceTemplate.arcface(48)
MAP_SIZE = 192


@cache
def appearance() -> Appearance:
    return Appearance(head_model(), size=MAP_SIZE)


@cache
def surface_maps() -> SurfaceMaps:
    return draw_surface_maps(head_model(), size=MAP_SIZE)


@cache
def renderer(*, detector_spread: float = 0.025) -> FaceRenderer:
    return FaceRenderer(template=SMALL, detector_spread=detector_spread)


@cache
def small_faces(people: int = 6, *, first_identity: int = 0, faces_per_identity: int = 4) -> SyntheticFaces:
    return SyntheticFaces(
        people, faces_per_identity=faces_per_identity, first_identity=first_identity, template=SMALL, seed=3
    )


def levels_apart(one: Tensor, other: Tensor) -> int:
    """The largest difference of two uint8 pictures."""
    assert one.shape == other.shape
    return int((one.int() - other.int()).abs().max()) if one.numel() else 0


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether pictures are the same but for rounding: a level, or more where an edge runs just through a sample."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return float(((one.int() - other.int()).abs() > 1).float().mean()) < 0.002
