"""The landmarks that come with rendered faces are true, and where an aligner wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from facemtl.alignment.similarity import transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from facemtl.data.synthetic.camera import (
    Camera,
    aligning_matrices,
    apply_matrices,
    draw_camera,
    draw_errors,
    project,
    turn,
)
from facemtl.data.synthetic.render import Heads, render
from facemtl.data.synthetic.topology import topology_of
from tests.meshes import ambient_light, black
from tests.synthetic_heads import head_model, people


def _markers(landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Octahedra of 3 mm at landmarks ``(batch, 5, 3)``, each with a texture cell of its own."""
    axes = torch.cat((torch.eye(3), -torch.eye(3)))
    vertices = (landmarks[:, :, None] + 0.3 * axes).flatten(1, 2)
    sides = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    triangles = torch.tensor([[6 * mark + corner for corner in side] for mark in range(5) for side in sides])
    places = torch.tensor([(mark + 0.5) / 5 for mark in range(5)]).repeat_interleave(8)
    return vertices, triangles, torch.stack((places, torch.full((40,), 0.5)), 1)[:, None].expand(-1, 3, -1)


def _marked_heads(batch: int) -> tuple[Heads, Camera]:
    """Markers where people have their landmarks, without the heads that would hide some."""
    head = head_model()
    ages = torch.tensor([4.0, 15, 30, 50, 70, 90, 25, 40])[:batch]
    landmarks = head.landmarks(head(people(batch), ages))
    vertices, triangles, places = _markers(landmarks)
    maps = torch.zeros(batch, 6, 5, 50)
    for mark in range(5):  # the first three are red, green, blue; then red and green once more
        maps[:, mark % 3, :, 10 * mark : 10 * mark + 10] = 1.0
    topology = topology_of(triangles, places, num_vertices=30)
    return Heads(vertices, landmarks, torch.ones(30), maps, topology), draw_camera(5, torch.arange(batch))


def _centres(images: Tensor) -> Tensor:
    """``(batch, 5, 2)`` centres of mass of the markers: those of one colour are parted by their height."""
    height, width = images.shape[2:]
    y, x = torch.meshgrid(torch.arange(height * 1.0), torch.arange(width * 1.0), indexing="ij")
    centres = []
    for image in images:
        middle = (image.sum(0) * y).sum() / image.sum()
        masks = (image[0] * (y < middle), image[1] * (y < middle), image[2], image[0] * (y >= middle))
        masks = (*masks, image[1] * (y >= middle))
        centres.append([[float((mask * x).sum() / mask.sum()), float((mask * y).sum() / mask.sum())] for mask in masks])
    return torch.tensor(centres)


def test_true_landmarks_lie_where_the_picture_shows_them() -> None:
    """In photographs, in crops aligned by the true landmarks, and in crops that heads are drawn straight into."""
    heads, camera = _marked_heads(8)
    camera = camera._replace(
        roll=torch.linspace(-25, 25, 8), scale=torch.full((8,), 12.0), right=torch.linspace(-5, 5, 8)
    )
    surroundings = {"light": ambient_light(8), "background": black(8)}
    photographs = render(heads, camera=camera, size=(400, 420), **surroundings)
    assert (_centres(photographs.images) - photographs.landmarks).norm(dim=-1).max() < 0.25

    template = FaceTemplate.arcface()
    crops = FaceAligner(template)(photographs.images.clamp(0, 1), photographs.landmarks)
    carried = transform_points(crops.matrices, photographs.landmarks)
    assert (_centres(crops.crops.clamp_min(0)) - carried).norm(dim=-1).max() < 0.5

    projected = project(turn(heads.landmarks, camera), camera, size=(400, 420))[..., :2]
    matrices = aligning_matrices(projected, template)
    torch.testing.assert_close(matrices, crops.matrices, rtol=0, atol=1e-3)
    # drawn into the crop: the camera's picture of 400 × 420, shown through the crop's 112 × 112
    drawn = render(heads, camera=camera, size=(112, 112), matrices=_for_size(matrices, (400, 420)), **surroundings)
    torch.testing.assert_close(drawn.landmarks, carried, rtol=0, atol=0.01)
    assert (_centres(drawn.images) - drawn.landmarks).norm(dim=-1).max() < 0.25


def _for_size(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """The matrices of a camera's picture of another size, which shares its middle."""
    shift = torch.tensor([(size[1] - 112) / 2, (size[0] - 112) / 2])
    moved = matrices.clone()
    moved[..., 2] += (matrices[..., :2] * shift).sum(-1)
    return moved


def test_true_landmarks_fit_the_template_as_well_as_five_points_can() -> None:
    """No similarity does better, and a detector's errors move the crop by about as much as they are large."""
    head, template = head_model(), FaceTemplate.arcface()
    landmarks = head.landmarks(head(people(64), torch.full((64,), 30.0)))
    camera = draw_camera(0, torch.arange(64))
    projected = project(turn(landmarks, camera), camera, size=(112, 112))[..., :2]
    aligned = apply_matrices(aligning_matrices(projected, template), projected)
    target = template.tensor(dtype=torch.float32)
    residual = (aligned - target).square().sum(-1).mean(-1).sqrt()
    assert residual.median() < 4  # people and poses are not the template
    torch.testing.assert_close(aligned.mean(1), target.mean(0).expand(64, -1), rtol=0, atol=1e-3)
    for change in (torch.tensor([[1.001, 0], [0, 1.001]]), torch.tensor([[1, -0.001], [0.001, 1]])):
        moved = (aligned - target.mean(0)) @ change.T + target.mean(0)
        assert ((moved - target).square().sum((1, 2)) > (aligned - target).square().sum((1, 2)) - 1e-3).all()
    errors = draw_errors(0, torch.arange(64))
    seen = apply_matrices(aligning_matrices(projected, template, errors=errors), projected)
    shift = (seen - aligned).norm(dim=-1).mean()
    assert 0.2 < shift < 2.0
