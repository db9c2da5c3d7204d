"""A network in YuNet's place that sees coloured dots, to test all that stands around the real one.

It takes what YuNet takes (BGR in [0, 255]) and says what YuNet says (offsets from anchors, class and overlap scores),
for a face whose five landmarks are dots of red, green, blue, yellow and cyan. Its encoding is written here from the
paper's description, with loops of its own, so that it cannot share a mistake with the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1))
"""RGB of the dots of the landmarks, in the order of LANDMARKS."""

ANCHORS = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
"""Stride of each grid, and the sides of the anchors in each of its cells."""


def dotted_photograph(height: int, width: int, landmarks: Tensor, *, radius: float = 3.0) -> Tensor:
    """``(3, height, width)`` uint8 RGB: a soft dot at each of ``(5, 2)`` landmarks, on black."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    picture = torch.zeros(3, height, width, dtype=torch.float64)
    for (px, py), colour in zip(landmarks.tolist(), COLOURS, strict=True):
        dot = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))
        picture += dot * torch.tensor(colour, dtype=torch.float64)[:, None, None]
    return (255 * picture).round().clamp(0, 255).to(torch.uint8)


class PlantedYuNet(nn.Module):
    """Emits one face for each photograph with dots, none for a black one."""

    def __init__(self, score: float = 0.9) -> None:
        super().__init__()
        self.score = score
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, bgr: Tensor) -> dict[str, Tensor]:
        self.shapes.append(tuple(bgr.shape))
        anchors = _anchors(*bgr.shape[-2:])
        loc = torch.zeros(len(bgr), len(anchors), 14)
        conf = torch.zeros(len(bgr), len(anchors), 2)
        conf[..., 0] = 1
        iou = torch.zeros(len(bgr), len(anchors), 1)
        for row, image in enumerate(bgr):
            points = _dots(image)
            if points is None:
                continue
            side = (points[:, 0].max() - points[:, 0].min()) * 2
            box = torch.tensor([*points.mean(0), side, side * 1.25])
            best = int((anchors[:, :2] - box[:2]).norm(dim=1).add((anchors[:, 2] - side).abs()).argmin())
            centre, size = anchors[best, :2], anchors[best, 2]
            loc[row, best, :2] = (box[:2] - centre) / (0.1 * size)
            loc[row, best, 2:4] = (box[2:] / size).log() / 0.2
            loc[row, best, 4:] = ((points - centre) / (0.1 * size)).flatten()
            conf[row, best] = torch.tensor([1 - self.score, self.score])
            iou[row, best] = self.score
        return {"loc": loc.to(bgr), "conf": conf.to(bgr), "iou": iou.to(bgr)}


def _anchors(height: int, width: int) -> Tensor:
    """``(anchors, 3)``: x, y of the centre and the side, in pixels counted from the first pixel's edge."""
    rows = []
    for stride, sides in ANCHORS:
        for i in range(height // stride):
            for j in range(width // stride):
                rows += [((j + 0.5) * stride, (i + 0.5) * stride, float(side)) for side in sides]
    return torch.tensor(rows)


def _dots(bgr: Tensor) -> Tensor | None:
    """Centre of each colour's dot, ``(5, 2)``, from the first pixel's edge."""
    rgb = bgr.flip(0).float()
    brightest = rgb.amax(0)
    if brightest.max() < 20:
        return None
    kind = rgb > 0.5 * brightest
    y, x = torch.meshgrid(torch.arange(rgb.shape[1]) + 0.5, torch.arange(rgb.shape[2]) + 0.5, indexing="ij")
    centres = []
    for colour in COLOURS:
        here = (kind == torch.tensor(colour, dtype=torch.bool)[:, None, None]).all(0) & (brightest > 8)
        weight = brightest * here
        centres.append(torch.stack(((weight * x).sum(), (weight * y).sum())) / weight.sum())
    return torch.stack(centres)
