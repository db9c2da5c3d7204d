"""Rendering against geometry and optics that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic import shading_points
from facemtl.data.synthetic.camera import draw_camera, project, rotation_of, turn
from facemtl.data.synthetic.lighting import draw_light, harmonics, surrounding
from facemtl.data.synthetic.occlusion import vertex_normals
from facemtl.data.synthetic.render import Heads, render
from facemtl.data.synthetic.shadow import cast_shadows
from facemtl.data.synthetic.topology import smooth_normals, topology_of, triangle_frames
from tests.meshes import ambient_light, black, frontal_camera, grid_mesh, sphere, spheres
from tests.synthetic_heads import head_model, people


@pytest.mark.parametrize(
    ("angles", "point", "goes_to"),
    [
        ((90.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),  # a turned face looks to the viewer's right
        ((0.0, 90.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)),  # a raised one up
        ((0.0, 0.0, 90.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),  # a leaning head has its top at the right
        ((90.0, 90.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),  # yaw before pitch: the ear points up, the face aside
        ((0.0, 90.0, 90.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),  # and pitch before roll
        ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
    ],
)
def test_heads_turn_as_the_camera_says(
    angles: tuple[float, float, float], point: tuple[float, ...], goes_to: tuple[float, ...]
) -> None:
    camera = frontal_camera(1)._replace(
        **{name: torch.tensor([value]) for name, value in zip(("yaw", "pitch", "roll"), angles, strict=True)}
    )
    found = turn(torch.tensor([[point]]), camera)
    torch.testing.assert_close(found, torch.tensor([[goes_to]]), rtol=0, atol=1e-6)


def test_projection_equals_a_pinhole_matrix() -> None:
    camera = draw_camera(3, torch.arange(20))._replace(right=torch.linspace(-3, 3, 20), up=torch.linspace(4, -4, 20))
    points = torch.randn(20, 7, 3) * 8
    found = project(turn(points, camera), camera, size=(90, 120))
    rotation = rotation_of(camera).double()
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(20, -1, -1), rtol=0, atol=1e-6)
    for row in range(20):
        focal = float(camera.scale[row] * camera.distance[row])
        intrinsics = torch.tensor([[focal, 0, 59.5], [0, focal, 44.5], [0, 0, 1]], dtype=torch.float64)
        seen = points[row].double() @ rotation[row].T
        seen = seen + torch.tensor([float(camera.right[row]), float(camera.up[row]), 0])
        seen = torch.stack((seen[:, 0], -seen[:, 1], float(camera.distance[row]) - seen[:, 2]), 1)
        homogeneous = seen @ intrinsics.T
        expected = torch.cat((homogeneous[:, :2] / homogeneous[:, 2:], seen[:, 2:]), 1)
        torch.testing.assert_close(found[row], expected.float(), rtol=1e-4, atol=1e-3)


def test_normals_equal_those_of_the_asset() -> None:
    head = head_model()
    vertices = head(people(3), torch.tensor([5.0, 30, 80]))
    topology = topology_of(head.triangles, head.texture_coordinates, num_vertices=head.num_vertices)
    found = smooth_normals(triangle_frames(vertices, topology), topology)
    torch.testing.assert_close(found, vertex_normals(vertices, head.triangles), rtol=0, atol=1e-4)


def test_gradients_of_texture_coordinates_measure_the_surface() -> None:
    points, triangles = grid_mesh(4, 3)
    vertices = torch.cat((points * torch.tensor([2.0, 5.0]), torch.zeros(len(points), 1)), 1)
    places = (points / torch.tensor([4.0, 3.0]))[triangles]
    topology = topology_of(triangles, places, num_vertices=len(points))
    frames = triangle_frames(vertices[None], topology)
    for found, expected in ((frames.along_u, (1 / 8, 0, 0)), (frames.along_v, (0, 1 / 15, 0))):
        torch.testing.assert_close(
            torch.cat(found, 1), torch.tensor(expected).expand(len(triangles), -1), rtol=0, atol=1e-6
        )


def test_evenly_lit_white_is_as_bright_as_the_light() -> None:
    """A furnace: whatever the shape, matt grey under the same light from everywhere is grey."""
    rendered = render(
        spheres(1, albedo=0.5), camera=frontal_camera(1), light=ambient_light(1, 0.8), background=black(1)
    )
    inner = rendered.mask == 1
    assert inner.sum() > 3000
    assert (rendered.images[:, :, inner[0]] - 0.4).abs().max() < 1e-5
    assert rendered.images[:, :, rendered.mask[0] == 0].abs().max() == 0


def test_a_matt_sphere_follows_lamberts_cosine() -> None:
    vertices, triangles, places = sphere(8.0, columns=96, rows=64)
    topology = topology_of(triangles, places, num_vertices=len(vertices))
    maps = torch.zeros(1, 6, 4, 4)
    maps[:, :3] = 0.5
    heads = Heads(vertices[None], torch.zeros(1, 5, 3), torch.ones(len(vertices)), maps, topology)
    direction = F.normalize(torch.tensor([0.6, 0.5, 0.7]), dim=0)
    light = ambient_light(1, 0.0)
    light.colours[:, 0] = torch.tensor([1.0, 0.5, 0.25])
    light = light._replace(directions=direction.expand(1, 3, 3))
    rendered = render(heads, camera=frontal_camera(1, distance=1000.0), light=light, background=black(1))
    y, x = torch.meshgrid(55.5 - torch.arange(112.0), torch.arange(112.0) - 55.5, indexing="ij")
    z = (64 - (x / 5).square() - (y / 5).square()).clamp_min(0).sqrt()
    cosine = (torch.stack((x / 5, y / 5, z), -1) / 8 @ direction).clamp_min(0)
    inner = (z > 2.5) & ((cosine > 0.3) | (cosine == 0))
    for channel, colour in enumerate((1.0, 0.5, 0.25)):
        difference = rendered.images[0, channel] - 0.5 * colour * cosine
        assert difference[inner].abs().max() < 0.02 * colour


def test_bumps_look_like_the_shape_that_they_stand_for() -> None:
    """A smooth sphere with a height map shades as a sphere whose vertices are moved."""
    vertices, triangles, places = sphere(8.0, columns=192, rows=128)
    topology = topology_of(triangles, places, num_vertices=len(vertices))
    u, v = (torch.arange(512) + 0.5) / 512, (torch.arange(512) + 0.5)[:, None] / 512
    waves = 0.08 * (2 * math.pi * (12 * u + 8 * v)).sin()
    maps = torch.zeros(1, 6, 512, 512)
    maps[:, :3] = 0.5
    bumped_maps = maps.clone()
    bumped_maps[:, 3] = waves
    at = torch.zeros(len(vertices), 2)
    at[topology.sources] = topology.texture_coordinates
    height = 0.08 * (2 * math.pi * (12 * at[:, 0] + 8 * at[:, 1])).sin()
    moved = vertices * (1 + height / 8)[:, None]
    light = ambient_light(1, 0.0)
    light.colours[:, 0] = 1.0
    light = light._replace(directions=F.normalize(torch.tensor([0.5, 0.4, 0.8]), dim=0).expand(1, 3, 3))

    def picture(shape: Tensor, texture: Tensor) -> Tensor:
        heads = Heads(shape[None], torch.zeros(1, 5, 3), torch.ones(len(vertices)), texture, topology)
        return render(heads, camera=frontal_camera(1), light=light, background=black(1)).images[0, 0, 30:82, 30:82]

    plain, bumped, true = picture(vertices, maps), picture(vertices, bumped_maps), picture(moved, maps)
    effect = (true - plain).abs().mean()
    assert effect > 0.012
    assert (true - bumped).abs().mean() < 0.2 * effect


def test_textures_are_the_right_way_round() -> None:
    heads = spheres(1)
    maps = torch.zeros(1, 6, 64, 64)
    maps[:, 0, :32] = 1  # the upper half is red
    maps[:, 1, :, 32:] = 1  # beyond the seam's opposite, at the front, is green
    rendered = render(heads._replace(maps=maps), camera=frontal_camera(1), light=ambient_light(1), background=black(1))
    image = rendered.images[0]
    assert image[0, 30, 56] > 0.95
    assert image[0, 80, 56] < 0.05
    vertices, triangles, places = sphere()
    right = places[:, :, 0][vertices[triangles][..., 0] > 1].mean() > 0.5  # which half is to the viewer's right
    assert (image[1, 56, 75] > 0.95) == bool(right)
    assert (image[1, 56, 36] > 0.95) != bool(right)


def test_lights_without_shadows_join_the_surrounding() -> None:
    light = draw_light(2, torch.arange(30))
    normals = F.normalize(torch.randn(500, 3), dim=-1)
    polynomials = torch.stack(harmonics(*normals.unbind(-1)), -1)
    found = torch.einsum("nk,bkc->bnc", polynomials, surrounding(light) - light.ambient)
    cosine = torch.einsum("nd,bld->bnl", normals, light.directions[:, 1:]).clamp_min(0)
    expected = torch.einsum("bnl,blc->bnc", cosine, light.colours[:, 1:])
    limit = 0.095 * light.colours[:, 1:].sum(1)[:, None]
    assert ((found - expected).abs() <= limit + 1e-6).all()


def test_a_plate_casts_its_shadow() -> None:
    points, triangles = grid_mesh(20, 20)
    floor = torch.cat((points - 10, torch.zeros(len(points), 1)), 1)
    plate = torch.cat(((points - 10) / 5, torch.full((len(points), 1), 3.0)), 1)  # 4 × 4 cm, 3 cm above
    vertices = torch.cat((floor, plate))[None]
    both = torch.cat((triangles, triangles + len(points)))
    normals = torch.tensor([0.0, 0, 1]).expand_as(vertices)
    direction = F.normalize(torch.tensor([[0.5, 0.0, 1.0]]), dim=-1)
    lit = cast_shadows(vertices, normals, both, to_light=direction, softness=torch.tensor([0.1]))[0]
    on_floor, on_plate = lit[: len(points)], lit[len(points) :]
    assert on_plate.min() > 0.95
    # the shadow lies where the light's way goes on: 1.5 cm to the left
    inside = ((floor[:, 0] + 1.5).abs() < 1.3) & (floor[:, 1].abs() < 1.3)
    outside = ((floor[:, 0] + 1.5).abs() > 3.2) | (floor[:, 1].abs() > 3.2)
    assert inside.sum() >= 4
    assert on_floor[inside].max() < 0.1
    assert on_floor[outside].min() > 0.95
    soft = cast_shadows(vertices, normals, both, to_light=direction, softness=torch.tensor([1.0]))[0, : len(points)]
    blurred = (soft > 0.1) & (soft < 0.9)
    assert blurred.sum() > ((on_floor > 0.1) & (on_floor < 0.9)).sum()


def test_coverage_is_the_discs_area() -> None:
    vertices, triangles, places = sphere(8.0, columns=96, rows=64)
    topology = topology_of(triangles, places, num_vertices=len(vertices))
    heads = Heads(vertices[None], torch.zeros(1, 5, 3), torch.ones(len(vertices)), torch.zeros(1, 6, 2, 2), topology)
    for supersampling, tolerance in ((1, 0.01), (2, 0.005), (4, 0.003)):
        rendered = render(
            heads,
            camera=frontal_camera(1, distance=1e4),
            light=ambient_light(1),
            background=black(1),
            supersampling=supersampling,
        )
        assert abs(float(rendered.mask.sum()) / (math.pi * 40**2) - 1) < tolerance
    assert float(rendered.depth.min()) == pytest.approx(1e4 - 8, abs=0.01)


def test_drawn_lights_are_of_one_scale() -> None:
    """A white surface that faces the viewer gets about as much light in all pictures."""
    light = draw_light(0, torch.arange(400))
    polynomials = torch.stack(harmonics(*torch.tensor([0.0, 0.0, 1.0])[:, None]), -1)
    level = (polynomials @ surrounding(light))[:, 0] + light.colours[:, 0] * light.directions[:, 0, 2:].clamp_min(0)
    assert 0.7 < level.mean(-1).median() < 1.0
    assert level.mean(-1).min() > 0.2
    assert level.mean(-1).max() < 1.3
    # and from all sides some
    assert (
        torch.stack(harmonics(*F.normalize(torch.randn(200, 3), dim=-1).unbind(1)), 1) @ surrounding(light)
    ).min() > 0


def test_one_colour_a_pixel_is_as_good_as_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """On smooth pieces of the surface; edges have their four anyway."""
    head = head_model()
    vertices = head(people(2), torch.tensor([20.0, 60.0]))
    fine = torch.rand(2, 6, 45, 45, generator=torch.Generator().manual_seed(0))
    maps = F.interpolate(fine, size=(360, 360), mode="bilinear")
    maps[:, 3] *= 0.05
    maps[:, 4] *= 0.5
    topology = topology_of(head.triangles, head.texture_coordinates, num_vertices=head.num_vertices)
    heads = Heads(vertices, head.landmarks(vertices), head.occlusion, maps, topology)
    scene = {"camera": draw_camera(1, torch.arange(2)), "light": draw_light(1, torch.arange(2)), "background": black(2)}
    quick = render(heads, **scene)
    monkeypatch.setattr(shading_points, "_JUMP", -1.0)
    full = render(heads, **scene)
    torch.testing.assert_close(quick.mask, full.mask, rtol=0, atol=0)
    torch.testing.assert_close(quick.depth, full.depth, rtol=0, atol=0)
    difference = (quick.images - full.images).abs().amax(1)[full.mask > 0]
    assert difference.mean() < 0.01
    assert difference.quantile(0.99) < 0.06


def test_connected_pieces_of_the_maps_are_told_apart() -> None:
    _, triangles = grid_mesh(30, 2)
    points, _ = grid_mesh(30, 2)
    places = points[triangles].clone()
    places[triangles.amin(1) % 31 >= 15] += 100.0  # a cut in the maps, not in the mesh
    charts = topology_of(triangles, places, num_vertices=len(points)).charts
    assert len(charts.unique()) == 2
    assert torch.equal(charts == charts[0], places[:, 0, 0] < 50)
