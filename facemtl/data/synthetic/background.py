"""What is behind a head: walls, windows, furniture, leaves, out of focus."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform

NUM_SHAPES = 9

_GRID = 40


class Background(NamedTuple):
    """A gradient with soft shapes before it, of a batch of pictures. Places are shares of the picture, y downwards."""

    corners: Tensor
    """``(batch, 2, 2, 3)`` linear RGB of the ground at top left and right, bottom left and right."""
    centres: Tensor
    """``(batch, shapes, 2)``."""
    extents: Tensor
    """``(batch, shapes, 2)``, halves of width and height."""
    turns: Tensor
    """``(batch, shapes)`` radians."""
    roundness: Tensor
    """``(batch, shapes)`` in [0, 1], rectangles to ellipses."""
    blur: Tensor
    """``(batch, shapes)``, width of the edges."""
    colours: Tensor
    """``(batch, shapes, 3)``."""
    opacity: Tensor
    """``(batch, shapes)``."""


def draw_background(seed: int, faces: Tensor) -> Background:
    """Draw backgrounds: a third plain, a third bright blobs as of lamps and leaves, a third bars as of rooms.

    Args:
        seed: The data set's.
        faces: ``(batch,)`` int64 indices of pictures.

    Returns:
        :class:`Background`; row i depends on ``seed`` and ``faces[i]`` alone.
    """
    uniform = draw_uniform(seed, Purpose.BACKGROUND, faces, count=20 + 12 * NUM_SHAPES).float()
    kind, level, tint = uniform[:, 0], uniform[:, 1], uniform[:, 2:5]
    colourful = 0.12 + 0.5 * uniform[:, 11, None] ** 2
    base = (0.04 + 0.75 * level**2)[:, None] * (1 + colourful * (tint - 0.5))
    shading = 0.6 + 0.8 * uniform[:, 5:9].view(-1, 2, 2, 1)
    shape = uniform[:, 20:].view(-1, NUM_SHAPES, 12)
    blobs, bars = ((kind > 0.33) & (kind < 0.66)).float()[:, None], (kind >= 0.66).float()[:, None]
    size = 0.05 + 0.2 * shape[..., 2]
    long = torch.where(shape[..., 3] < 0.6, torch.ones_like(size), 0.12 * torch.ones_like(size))
    extents = torch.stack((size * (1 - bars) + bars * 1.2 * size * long, size * (1 - bars) + bars * 2.5 * size), -1)
    common = (0.5 - uniform[:, 9]) * 0.15
    turns = bars * (common[:, None] + torch.where(shape[..., 4] < 0.3, 1.5708, 0.0))
    colours = (
        base[:, None]
        * (0.35 + 1.5 * shape[..., 5, None] ** 2)
        * (1 + (colourful[:, None] + 0.15) * (shape[..., 6:9] - 0.5))
    )
    colours = colours + blobs[..., None] * 0.25 * shape[..., 9, None] ** 3
    sharp = 0.25 + 0.75 * uniform[:, 10, None]
    return Background(
        corners=base[:, None, None] * shading,
        centres=-0.1 + 1.2 * shape[..., :2],
        extents=extents,
        turns=turns,
        roundness=blobs.expand_as(size).clone(),
        blur=(0.05 + 0.18 * sharp).expand_as(size).clone(),
        colours=colours.clamp(0, 1.5),
        opacity=(0.25 + 0.6 * shape[..., 10]) * (blobs + bars),
    )


def paint(background: Background, *, size: tuple[int, int]) -> Tensor:
    """Paint ``(batch, 3, height, width)`` in linear RGB."""
    # all edges are soft: a coarse grid has all there is
    device, (height, width) = background.corners.device, (min(side, _GRID) for side in size)
    y = ((torch.arange(height, device=device) + 0.5) / height)[:, None]
    x = (torch.arange(width, device=device) + 0.5) / width
    top, bottom = background.corners[..., None, None].unbind(1)
    upper = top[:, 0] + (top[:, 1] - top[:, 0]) * x
    lower = bottom[:, 0] + (bottom[:, 1] - bottom[:, 0]) * x
    picture = upper + (lower - upper) * y
    for number in range(background.opacity.shape[1]):
        cover = _cover(background, number, x, y)[:, None]
        picture = picture + cover * (background.colours[:, number, :, None, None] - picture)
    return F.interpolate(picture, size=size, mode="bilinear", align_corners=False)


def _cover(background: Background, number: int, x: Tensor, y: Tensor) -> Tensor:
    """``(batch, height, width)``, how much of each pixel a shape covers."""

    def column(values: Tensor) -> Tensor:
        return values[:, number, None, None]

    turn = column(background.turns)
    dx, dy = x - column(background.centres[..., 0]), y - column(background.centres[..., 1])
    across = (turn.cos() * dx + turn.sin() * dy).abs()
    along = (turn.cos() * dy - turn.sin() * dx).abs()
    width, height, blur = (column(part) for part in (*background.extents.unbind(-1), background.blur))
    box = torch.sigmoid((width - across) * (4 / blur)) * torch.sigmoid((height - along) * (4 / blur))
    ellipse = torch.sigmoid(
        (1 - ((across / width).square() + (along / height).square()).sqrt()) * (2 * width / blur + 2)
    )
    return column(background.opacity) * (box + column(background.roundness) * (ellipse - box))
