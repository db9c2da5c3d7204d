from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.synthetic.atlas import CELLS, Island
from facemtl.data.synthetic.hair_zones import above_hairline, brow_coordinates
from facemtl.data.synthetic.head_asset import REGIONS
from facemtl.data.synthetic.surface_maps import SurfaceMaps, draw_surface_maps
from tests.synthetic_heads import head_model, vertices_of


@pytest.fixture(scope="module")
def maps() -> SurfaceMaps:
    return draw_surface_maps(head_model(), size=256)


def test_corners_of_triangles_lie_in_the_cell_of_their_island() -> None:
    head = head_model()
    for island, cell in CELLS.items():
        corners = head.texture_coordinates[head.islands == island]
        assert len(corners) > 0
        x, y = corners.flatten(0, 1).unbind(1)
        assert cell.left - 1e-3 <= x.min() < x.max() <= cell.right + 1e-3
        assert cell.top - 1e-3 <= y.min() < y.max() <= cell.bottom + 1e-3


def test_texels_know_where_on_the_head_they_are(maps: SurfaceMaps) -> None:
    head = head_model()
    centres = head.texture_coordinates.mean(1)
    places = head.average_adult()[head.triangles].mean(1)
    column, row = (centres * 256).long().unbind(1)
    inside = maps.islands[row, column] == head.islands
    assert inside.double().mean() > 0.98  # a triangle smaller than a texel may have its centre in its neighbour's
    seen = torch.nn.functional.grid_sample(
        maps.positions.permute(2, 0, 1)[None], (2 * centres - 1)[None, None], align_corners=False
    )[0, :, 0].T
    off = (seen - places)[inside & (head.islands == Island.HEAD)].norm(dim=1)
    assert off.median() < 0.02
    assert off.quantile(0.98) < 0.2  # ears and nostrils are folded into few texels


def test_islands_have_a_margin_of_their_own(maps: SurfaceMaps) -> None:
    bare = draw_surface_maps(head_model(), size=256, margin=0)
    drawn = bare.islands >= 0
    assert torch.equal(maps.islands[drawn], bare.islands[drawn])
    assert torch.equal(maps.positions[drawn], bare.positions[drawn])
    assert (bare.positions[~drawn] == 0).all()
    grown = (maps.islands >= 0) & ~drawn
    near = torch.nn.functional.max_pool2d(drawn[None].float(), 3, 1, 1)[0] > 0
    assert (maps.islands >= 0)[near].all()
    lengths = maps.normals[grown].norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)


def test_normals_point_away_from_the_head(maps: SurfaceMaps) -> None:
    skin = maps.islands == Island.HEAD
    outwards = torch.nn.functional.normalize(maps.positions[skin] - torch.tensor([0.0, 0.0, -9.0]), dim=-1)
    assert ((outwards * maps.normals[skin]).sum(-1) > 0).double().mean() > 0.93  # not so in ears and nostrils


def test_regions_are_where_they_belong(maps: SurfaceMaps) -> None:
    assert REGIONS == ("lips", "eyelids", "ears", "face")
    lips, eyelids, ears, face = (maps.positions[maps.regions[..., at] > 0.5] for at in range(4))
    _, _, _, left_mouth, right_mouth = head_model().average_adult()[head_model().landmark_vertices].unbind(0)
    assert (lips.mean(0) - (left_mouth + right_mouth) / 2)[:2].abs().max() < 0.5
    assert lips[:, 0].abs().max() < 1.2 * right_mouth[0]
    assert eyelids[:, 1].abs().max() < 2.0
    assert eyelids[:, 0].abs().min() > 1.0
    assert ears[:, 0].abs().min() > 5.5
    assert face[:, 2].min() > -12
    for region in (lips, eyelids, ears, face):
        assert region[:, 0].mean().abs() < 0.05 * region[:, 0].abs().max()


def test_hollows_are_darker_than_heights(maps: SurfaceMaps) -> None:
    head = head_model()
    nose = head.landmark_vertices[2]
    assert head.occlusion[nose] > 0.9
    assert head.occlusion[vertices_of(Island.MOUTH)].median() < 0.05
    skin = maps.islands == Island.HEAD
    ears = skin & (maps.regions[..., REGIONS.index("ears")] > 0.5)
    assert maps.occlusion[ears].mean() < maps.occlusion[skin & ~ears].mean() - 0.1


def test_hair_grows_on_the_skull_and_not_in_the_face(maps: SurfaceMaps) -> None:
    head = head_model()
    adult = head.average_adult()
    height = above_hairline(adult)
    skin = vertices_of(Island.HEAD)
    assert height[skin[adult[skin, 1].argmax()]] > 3
    assert height[skin[adult[skin, 2].argmin()]] > 3
    bare = (adult[skin, 2] > -1.5) & (adult[skin, 1] < 5)
    assert (height[skin[bare]] < 0).all()
    share = (above_hairline(maps.positions[maps.islands == Island.HEAD]) > 0).double().mean()
    assert 0.35 < share < 0.75


@given(first=st.floats(0.0, 1.0), second=st.floats(0.0, 1.0))
def test_a_receding_hairline_only_loses(first: float, second: float) -> None:
    adult = head_model().average_adult()
    less, more = (above_hairline(adult, recession) for recession in (min(first, second), max(first, second)))
    assert (more <= less + 1e-5).all()
    behind = adult[:, 2] < -12  # the wreath at the back stays
    assert torch.allclose(more[behind], less[behind], atol=1e-4)


def test_brows_are_above_the_eyes_and_below_the_hair(maps: SurfaceMaps) -> None:
    along, across = brow_coordinates(maps.positions)
    brow = (maps.islands == Island.HEAD) & (along > 0) & (along < 1) & (across.abs() < 0.3)
    places = maps.positions[brow]
    assert len(places) > 40
    assert places[:, 2].min() > -4
    assert places[:, 1].min() > 0.9
    assert (above_hairline(places) < -1.0).all()
    assert (places[:, 0] > 0).double().mean() == pytest.approx(0.5, abs=0.1)
    assert maps.regions[brow][:, REGIONS.index("eyelids")].max() < 0.5
