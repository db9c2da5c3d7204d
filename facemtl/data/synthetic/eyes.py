"""Eyes: white, iris and pupil, as one sees them from the front."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl.data.synthetic.ageing_shape import late_share
from facemtl.data.synthetic.appearance_factors import AppearanceFactors
from facemtl.data.synthetic.atlas import CELLS, Island
from facemtl.data.synthetic.noise import smooth_noise, smoothstep

_IRIS = 0.37  # of the radius of the eyeball's cap, which is what the cell shows
_COLOURS = ((0.095, 0.145, 0.20), (0.085, 0.105, 0.05), (0.095, 0.058, 0.02), (0.048, 0.021, 0.009))


class EyePainter(nn.Module):
    """Paint both eyes of people into their cells of the maps.

    Args:
        size: Of the maps.
    """

    _radius: Tensor
    _fibres: Tensor
    _upper: Tensor
    _veins: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        cell = CELLS[Island.LEFT_EYE]
        self.side = round((cell.right - cell.left) * size) + 2
        at = (torch.arange(self.side) - (self.side - 1) / 2) / ((cell.right - cell.left) * size / 2)
        y, x = torch.meshgrid(-at, at, indexing="ij")
        angle = torch.atan2(y, x)
        spokes = smooth_noise(83, (4, 256), (4.0, 3.0))[0]
        turned = ((angle / (2 * torch.pi) + 0.5) * 255).long()
        for name, value in (
            ("_radius", (x.square() + y.square()).sqrt()),
            ("_fibres", spokes[turned]),
            ("_upper", smoothstep(y, -0.1, 0.6)),
            (
                "_veins",
                smooth_noise(84, (self.side, self.side), (3.0, 9.0)).clamp(0, 2) * smoothstep(x.abs(), 0.5, 0.9),
            ),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, factors: AppearanceFactors, ages: Tensor) -> Tensor:
        """Return ``(batch, 3, side, side)`` albedos."""
        late = late_share(ages)[:, None, None]
        radius, scale = self._radius, self._radius.new_tensor(_COLOURS)
        outer = scale[factors.eye_colour] * torch.exp(0.28 * factors.eye_shade)[:, None]
        inner = outer * outer.new_tensor([1.35, 1.15, 0.85])
        collar = smoothstep(radius / _IRIS, 0.45, 0.75)
        iris = inner[:, :, None, None] + (outer - inner)[:, :, None, None] * collar
        iris = iris * (1 + 0.22 * self._fibres * smoothstep(radius / _IRIS, 0.35, 0.6))
        ring = smoothstep(radius / _IRIS, 0.78, 1.0)
        iris = iris * (1 - 0.72 * ring)
        pupil = 1 - smoothstep(radius / _IRIS, 0.33, 0.42)
        iris = iris * (1 - pupil) + 0.004 * pupil
        red = 0.05 + 0.05 * late
        white = torch.stack((0.70 - 0.06 * late, 0.63 - 0.10 * late, 0.58 - 0.16 * late), 1)
        blood = torch.stack((torch.zeros_like(red), red, red), 1) * self._veins
        white = (white - blood) * (1 - 0.25 * smoothstep(radius, 0.6, 1.0))
        inside = 1 - smoothstep(radius / _IRIS, 0.95, 1.08)
        return ((white + (iris - white) * inside) * (1 - 0.35 * self._upper)).clamp(0.003, 0.9)

    def place(self, maps: Tensor, eyes: Tensor) -> None:
        """Write the eyes into ``maps`` ``(batch, channels, size, size)``: colours, no height, wet, nothing below."""
        for island in (Island.LEFT_EYE, Island.RIGHT_EYE):
            cell = CELLS[island]
            top = round((cell.top + cell.bottom) / 2 * self.size - self.side / 2)
            left = round((cell.left + cell.right) / 2 * self.size - self.side / 2)
            part = maps[:, :, top : top + self.side, left : left + self.side]
            part[:, :3], part[:, 3], part[:, 4], part[:, 5] = eyes, 0.0, 0.93, 0.15
