"""From numbers to faces: who, how old, and which picture, to pixels and all that is true of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facemtl.alignment.templates import FaceTemplate
from facemtl.data.synthetic.appearance import Appearance
from facemtl.data.synthetic.appearance_factors import AppearanceFactors, draw_appearance
from facemtl.data.synthetic.background import Background, draw_background
from facemtl.data.synthetic.camera import (
    Camera,
    aligning_matrices,
    apply_matrices,
    draw_camera,
    draw_errors,
    project,
    turn,
)
from facemtl.data.synthetic.development import Development, develop, draw_development
from facemtl.data.synthetic.expression import draw_actions
from facemtl.data.synthetic.head_model import HeadModel
from facemtl.data.synthetic.lighting import Light, draw_light
from facemtl.data.synthetic.moved import moved
from facemtl.data.synthetic.person import Traits, draw_traits
from facemtl.data.synthetic.render import render


class FaceFactors(NamedTuple):
    """All that makes a batch of pictures."""

    traits: Traits
    """The shape of the person."""
    appearance: AppearanceFactors
    """The looks of the person."""
    ages: Tensor
    """``(batch,)`` years."""
    actions: Tensor
    """``(batch, actions)`` of the face."""
    camera: Camera
    light: Light
    background: Background
    development: Development
    errors: Tensor
    """``(batch, 5, 2)`` of the detector whose landmarks the crop was aligned by, in shares of the eyes' distance."""


class TrueFaces(NamedTuple):
    """A batch of pictures and what is true of them."""

    images: Tensor
    """``(batch, 3, height, width)`` uint8 RGB."""
    landmarks: Tensor
    """``(batch, 5, 2)`` x and y in pixels, the viewer's left eye first."""
    depth: Tensor
    """``(batch, height, width)`` centimetres from the camera, infinite beside the head."""
    mask: Tensor
    """``(batch, height, width)`` in [0, 1], how much of each pixel the head covers."""
    factors: FaceFactors


class FaceRenderer(nn.Module):
    """Render people who do not exist.

    Everything follows from the seed and two numbers: the identity says who it is, at every age and in every picture;
    the picture says how it was taken. The numbers are the same on every machine; pixels may
    differ a little, as processors round differently; by how much has not been measured.

    Args:
        template: Where an aligner lays the landmarks; the crop's size is its size.
        seed: Another seed is another population.
        detector_spread: Standard deviation of the errors of the detector that crops are aligned by, in shares of the
            distance between the eyes; 0 aligns by the truth.

    Example:
        >>> import torch
        >>> faces = FaceRenderer()(torch.tensor([7, 7]), torch.tensor([9.0, 60.0]), torch.tensor([0, 1]))
        >>> faces.images.shape, faces.landmarks.shape
        (torch.Size([2, 3, 112, 112]), torch.Size([2, 5, 2]))
    """

    def __init__(self, *, template: FaceTemplate | None = None, seed: int = 0, detector_spread: float = 0.025) -> None:
        super().__init__()
        self.template = template if template is not None else FaceTemplate.arcface()
        self.seed, self.detector_spread = seed, detector_spread
        self.head = HeadModel()
        # a texel for each pixel of the face, and a little more
        self.appearance = Appearance(
            self.head, size=max(192, round(3.2 * max(self.template.height, self.template.width)))
        )

    def draw(self, identities: Tensor, ages: Tensor, pictures: Tensor) -> FaceFactors:
        """Draw what makes the pictures; on the CPU, where it is the same for all."""
        seed = self.seed
        traits = draw_traits(seed, identities, self.head.change_names)
        return FaceFactors(
            traits=traits,
            appearance=draw_appearance(seed, identities, traits),
            ages=ages.float(),
            actions=draw_actions(seed, pictures, self.head.action_names),
            camera=draw_camera(seed, pictures),
            light=draw_light(seed, pictures),
            background=draw_background(seed, pictures),
            development=draw_development(seed, pictures),
            errors=draw_errors(seed, pictures, spread=self.detector_spread),
        )

    @torch.no_grad()
    def forward(self, identities: Tensor, ages: Tensor, pictures: Tensor) -> TrueFaces:
        """Render pictures of people.

        Args:
            identities: ``(batch,)`` int64, at least 0.
            ages: ``(batch,)`` years in [0, 100].
            pictures: ``(batch,)`` int64, at least 0.
        """
        return self.render(self.draw(identities.cpu(), ages.cpu(), pictures.cpu()))

    @torch.no_grad()
    def landmarks(self, factors: FaceFactors) -> Tensor:
        """Return the landmarks ``(batch, 5, 2)`` of pictures, without rendering them."""
        drawn = moved(factors, self.head.triangles.device)
        points = self.head.landmarks(self.head(drawn.traits, drawn.ages, drawn.actions))
        size = (self.template.height, self.template.width)
        seen = project(turn(points, drawn.camera), drawn.camera, size=size)[..., :2]
        return apply_matrices(aligning_matrices(seen, self.template, errors=drawn.errors), seen)

    @torch.no_grad()
    def render(self, factors: FaceFactors) -> TrueFaces:
        """Render what was drawn, perhaps with factors changed: one person in many lights, one age after another."""
        drawn = moved(factors, self.head.triangles.device)
        size = (self.template.height, self.template.width)
        vertices = self.head(drawn.traits, drawn.ages, drawn.actions)
        heads = self.appearance(drawn.appearance, drawn.traits, drawn.ages, self.head, vertices)
        seen = project(turn(heads.landmarks, drawn.camera), drawn.camera, size=size)[..., :2]
        rendered = render(
            heads,
            camera=drawn.camera,
            light=drawn.light,
            background=drawn.background,
            size=size,
            matrices=aligning_matrices(seen, self.template, errors=drawn.errors),
        )
        images = (develop(rendered.images, drawn.development) * 255).round().to(torch.uint8)
        return TrueFaces(images, rendered.landmarks, rendered.depth, rendered.mask, factors)
