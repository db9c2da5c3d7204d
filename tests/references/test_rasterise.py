"""The rasteriser against a loop in float64, and against geometry that is known."""

from __future__ import annotations

import pytest
import torch

from facemtl.data.synthetic.rasterise import find_covered, interpolate, measure_depth, rasterise
from tests.meshes import grid_mesh, plain_rasteriser, sphere


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("snapped", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_equals_a_loop_in_float64(seed: int, snapped: bool, cull: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(2, 24, 3, generator=generator) * torch.tensor([30.0, 25, 50]) + torch.tensor([-5.0, -5, 20])
    if snapped:  # corners and edges on pixel centres, where the fill rule decides
        vertices[..., :2] = vertices[..., :2].round()
    triangles = torch.stack([torch.randperm(24, generator=generator)[:3] for _ in range(14)])
    fragments = rasterise(vertices, triangles, size=(17, 23), cull=cull)
    plain = plain_rasteriser(vertices, triangles, size=(17, 23), cull=cull)
    assert plain.clear.float().mean() > 0.95
    torch.testing.assert_close(fragments.triangles[plain.clear], plain.triangles[plain.clear])
    torch.testing.assert_close(fragments.depth, plain.depth.float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        fragments.barycentrics[plain.clear], plain.barycentrics[plain.clear].float(), rtol=0, atol=2e-5
    )


def test_large_triangles_equal_a_loop_in_float64() -> None:
    vertices = torch.tensor([[[-300.0, -250, 40], [20, 340, 60], [310, -100, 50], [5, 6, 30], [80, 50, 90]]])
    triangles = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 3, 4], [4, 3, 0], [1, 3, 4]])
    fragments = rasterise(vertices, triangles, size=(40, 70))
    plain = plain_rasteriser(vertices, triangles, size=(40, 70), cull=True)
    assert (plain.triangles >= 0).all()
    assert len(plain.triangles.unique()) > 1
    assert plain.clear.all()
    torch.testing.assert_close(fragments.triangles, plain.triangles)
    torch.testing.assert_close(fragments.depth, plain.depth.float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(fragments.barycentrics, plain.barycentrics.float(), rtol=0, atol=1e-4)


def test_triangles_behind_the_camera_are_left_out() -> None:
    square = torch.tensor([[[0.0, 0, 10], [0, 9, 10], [9, 0, 10]]])
    triangles = torch.tensor([[0, 1, 2]])
    for depth in (0.0, -1.0, float("nan"), float("inf")):
        broken = square.clone()
        broken[0, 1, 2] = depth
        assert (rasterise(broken, triangles, size=(9, 9)).triangles == -1).all()
    assert (rasterise(square, triangles, size=(9, 9)).triangles >= 0).any()


def test_the_first_of_equal_triangles_is_seen() -> None:
    vertices = torch.tensor([[[0.0, 0, 10], [0, 9, 10], [9, 0, 10]]])
    shown = rasterise(vertices, torch.tensor([[1, 2, 0], [0, 1, 2], [2, 0, 1]]), size=(9, 9)).triangles
    assert set(shown.unique().tolist()) == {-1, 0}


def test_a_sphere_is_as_deep_as_it_is() -> None:
    vertices, triangles, _ = sphere(8.0, columns=96, rows=64)
    away, scale = 1000.0, 5.0
    pixels = torch.stack((50 + scale * vertices[:, 0], 50 - scale * vertices[:, 1], away - vertices[:, 2]), -1)[None]
    depth = rasterise(pixels, triangles, size=(101, 101)).depth[0]
    y, x = torch.meshgrid(torch.arange(101.0), torch.arange(101.0), indexing="ij")
    square = 64 - ((x - 50) / scale).square() - ((y - 50) / scale).square()
    inner = square > 4
    assert (depth[inner] - (away - square[inner].sqrt())).abs().max() < 0.05
    assert depth[square < -0.5].isinf().all()


def test_the_depth_alone_is_the_same() -> None:
    vertices = torch.rand(2, 60, 3) * torch.tensor([40.0, 40, 50]) + torch.tensor([0.0, 0, 20])
    triangles = torch.randint(0, 60, (40, 3))
    whole = rasterise(vertices, triangles, size=(40, 40)).depth
    torch.testing.assert_close(measure_depth(vertices, triangles, size=(40, 40)), whole, rtol=1e-5, atol=0)


def test_interpolation_is_right_in_perspective() -> None:
    """A plane that leads away from the camera: what is linear in space is linear after division by depth only."""
    points, triangles = grid_mesh(3, 3)
    space = torch.stack((points[:, 0] - 1.5, torch.full((16,), -1.0), -2 - 3 * points[:, 1]), -1)
    pixels = torch.stack((50 - 60 * space[:, 0] / space[:, 2], 20 + 60 * space[:, 1] / space[:, 2], -space[:, 2]), -1)
    fragments = rasterise(pixels[None], triangles, size=(60, 101), cull=False)
    seen = fragments.triangles >= 0
    assert seen.sum() > 500
    found = interpolate(space[None], fragments, triangles)[seen]
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(101.0), indexing="ij")
    depth = fragments.depth[0]
    expected = torch.stack(((x - 50) * depth / 60, (y - 20) * -depth / 60, -depth), -1)[seen[0]]
    torch.testing.assert_close(found, expected.abs() * found.sign(), rtol=0.02, atol=0.06)
    of_corners = interpolate(space[triangles], fragments, triangles)[seen]
    torch.testing.assert_close(of_corners, found, rtol=0, atol=1e-4)


def test_what_is_interpolated_has_gradients() -> None:
    vertices = torch.tensor([[[0.0, 0, 10], [0, 9, 20], [9, 0, 30]]], dtype=torch.float64)
    triangles = torch.tensor([[0, 1, 2]])
    fragments = rasterise(vertices, triangles, size=(6, 6))
    values = torch.rand(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: interpolate(v, fragments, triangles), (values,))


def test_no_picture_and_no_triangle() -> None:
    triangles = torch.tensor([[0, 1, 2]])
    assert rasterise(torch.zeros(0, 3, 3), triangles, size=(4, 5)).triangles.shape == (0, 4, 5)
    empty = find_covered(torch.ones(2, 3, 3), triangles[:0], size=(4, 5))
    assert len(empty.places) == 0
    assert empty.dense().depth.isinf().all()
