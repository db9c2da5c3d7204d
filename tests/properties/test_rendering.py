"""What holds of any rendered picture: it depends on its own numbers alone, and on light as light adds up."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from facemtl.data.synthetic.background import draw_background, paint
from facemtl.data.synthetic.camera import Camera, draw_camera, draw_errors
from facemtl.data.synthetic.development import Development, develop, draw_development
from facemtl.data.synthetic.lighting import Light, draw_light
from facemtl.data.synthetic.render import Heads, RenderedFaces, render
from facemtl.data.synthetic.shading import Surface, shade
from facemtl.data.synthetic.topology import topology_of
from tests.meshes import ambient_light, frontal_camera, spheres
from tests.synthetic_heads import head_model, people

seeds = st.integers(0, 2**63)


def _heads(batch: int, *, start: int = 0) -> Heads:
    head = head_model()
    vertices = head(people(batch, start=start), torch.linspace(5, 90, batch + 1)[:batch])
    maps = torch.rand(batch, 6, 64, 64, generator=torch.Generator().manual_seed(3))
    maps[:, 3] *= 0.02
    topology = topology_of(head.triangles, head.texture_coordinates, num_vertices=head.num_vertices)
    return Heads(vertices, head.landmarks(vertices), head.occlusion, maps, topology)


def _rows(heads: Heads, part: slice) -> Heads:
    return heads._replace(vertices=heads.vertices[part], landmarks=heads.landmarks[part], maps=heads.maps[part])


def _render(heads: Heads, seed: int, faces: torch.Tensor) -> RenderedFaces:
    return render(
        heads,
        camera=draw_camera(seed, faces),
        light=draw_light(seed, faces),
        background=draw_background(seed, faces),
        size=(56, 48),
    )


@settings(max_examples=5)
@given(seed=seeds)
def test_a_face_does_not_depend_on_its_batch(seed: int) -> None:
    heads, faces = _heads(3), torch.arange(3)
    together = _render(heads, seed, faces)
    again = _render(heads, seed, faces)
    for number in range(3):
        part = slice(number, number + 1)
        alone = _render(_rows(heads, part), seed, faces[part])
        for one, all_, twice in zip(alone, together, again, strict=True):
            assert torch.equal(one[0], all_[number])
            assert torch.equal(all_, twice)


@given(seed=seeds, first=st.integers(0, 2**40))
def test_draws_depend_on_their_own_index(seed: int, first: int) -> None:
    faces = torch.tensor([first, 5, first + 7])
    for draw in (draw_camera, draw_light, draw_background, draw_development):
        together, alone = draw(seed, faces), draw(seed, faces[2:])
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_[2])
            assert all_.is_floating_point() == (all_.dtype == torch.float32)
            assert all_.isfinite().all()
            assert draw(seed, faces[:0])[0].shape[0] == 0
    assert torch.equal(draw_errors(seed, faces)[2:], draw_errors(seed, faces[2:]))


@settings(max_examples=5)
@given(seed=seeds)
def test_pictures_are_sound(seed: int) -> None:
    faces = torch.arange(2)
    rendered = _render(_heads(2), seed, faces)
    assert rendered.images.isfinite().all()
    assert rendered.images.min() >= 0
    assert rendered.images.max() < 20
    assert ((rendered.mask >= 0) & (rendered.mask <= 1)).all()
    assert torch.equal(rendered.depth.isfinite(), rendered.mask > 0)
    behind = paint(draw_background(seed, faces), size=(56, 48))
    bare = (rendered.mask == 0)[:, None].expand_as(behind)
    assert torch.equal(rendered.images[bare], behind[bare])
    developed = develop(rendered.images, draw_development(seed, faces))
    assert ((developed >= 0) & (developed <= 1)).all()


@given(seed=seeds)
def test_light_adds_up(seed: int) -> None:
    """Twice the light is twice the picture; and two lights are the sum of their pictures."""
    generator = torch.Generator().manual_seed(seed % 2**60)

    def plane() -> torch.Tensor:
        return torch.rand(2, 50, generator=generator)

    def vector() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, y, z = F.normalize(torch.randn(3, 2, 50, generator=generator), dim=0)
        return x, y, z

    colour = (plane(), plane(), plane())
    surface = Surface(vector(), vector(), vector(), colour, plane(), plane(), plane(), plane())
    first = draw_light(seed, torch.tensor([0, 1]))
    # the main light is of another colour; what is smooth is half as bright, so that what is cut off at 0 is the same
    main = torch.tensor([0.3, 1.2, 0.7]) * first.colours[:, :1]
    second = first._replace(colours=torch.cat((main, first.colours[:, 1:] * 0.5), 1), ambient=first.ambient * 0.5)
    both = first._replace(colours=first.colours + second.colours, ambient=first.ambient + second.ambient)
    for a, b, c in zip(shade(surface, first), shade(surface, second), shade(surface, both), strict=True):
        assert (a >= 0).all()
        torch.testing.assert_close(a + b, c, rtol=1e-3, atol=1e-4)
    dark = Light(first.ambient * 0, first.directions, first.colours * 0, first.softness)
    assert all(part.abs().max() == 0 for part in shade(surface, dark))


@given(seed=seeds)
def test_matt_surfaces_return_no_more_than_they_get(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**60)
    x, y, z = F.normalize(torch.randn(3, 1, 200, generator=generator), dim=0)
    ones, zeros = torch.ones(1, 200), torch.zeros(1, 200)
    light = draw_light(seed, torch.tensor([0]))._replace(ambient=torch.zeros(1, 9, 3))
    light.colours[:, 1:] = 0
    surface = Surface((x, y, z), (x, y, z), (x, y, z), (ones, ones, ones), zeros, torch.rand(1, 200), ones, ones)
    for channel, part in enumerate(shade(surface, light)):
        assert part.max() <= light.colours[0, 0, channel] * 1.001


@given(stops=st.floats(-2, 2), blur=st.floats(0, 1))
def test_development_keeps_order_and_grey(stops: float, blur: float) -> None:
    one = torch.ones(1)
    plain = Development(
        one * stops, torch.ones(1, 3), one, one, one * blur, one * 0, torch.zeros(1, 2, dtype=torch.int64)
    )
    ramp = torch.linspace(0, 4, 64).expand(1, 3, 8, 64)
    developed = develop(ramp, plain)
    torch.testing.assert_close(developed, developed[:, :1].expand(-1, 3, -1, -1), rtol=0, atol=1e-6)
    assert (developed.diff(dim=-1) >= -1e-6).all()
    brighter = develop(ramp, plain._replace(exposure=one * (stops + 0.5)))
    assert (brighter >= developed - 1e-6).all()
    noisy = develop(ramp, plain._replace(noise=one * 0.01, noise_at=torch.tensor([[250, 255]])))
    assert 0.004 < (noisy - developed)[developed.sub(0.5).abs() < 0.45].std() < 0.016


def test_blur_keeps_the_light() -> None:
    spot = torch.zeros(1, 3, 9, 9)
    spot[..., 4, 4] = 1e-3  # so dark that the curve is straight
    one = torch.ones(1)
    plain = Development(one * 0, torch.ones(1, 3), one, one, one, one * 0, torch.zeros(1, 2, dtype=torch.int64))
    blurred, sharp = (develop(spot, plain._replace(blur=one * blur)) for blur in (1.0, 0.0))
    torch.testing.assert_close(blurred.sum(), sharp.sum(), rtol=1e-3, atol=1e-5)
    assert blurred.max() < 0.5 * sharp.max()


def test_no_face_at_all() -> None:
    none = _render(_rows(_heads(1), slice(0, 0)), 0, torch.arange(0))
    assert none.images.shape == (0, 3, 56, 48)
    assert none.landmarks.shape == (0, 5, 2)
    assert none.depth.shape == none.mask.shape == (0, 56, 48)


def test_a_head_out_of_the_picture_leaves_its_neighbours_alone() -> None:
    camera = frontal_camera(3)
    camera = camera._replace(right=torch.tensor([0.0, 500.0, 0.0]))
    background = draw_background(0, torch.arange(3))
    rendered = render(spheres(3), camera=camera, light=ambient_light(3), background=background)
    assert rendered.mask[1].max() == 0
    torch.testing.assert_close(rendered.images[1], paint(background, size=(112, 112))[1], rtol=0, atol=0)
    assert rendered.mask[0].max() == rendered.mask[2].max() == 1
    assert isinstance(camera, Camera)
