"""What people look like: texture maps for heads, and the body of their hair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl.data.synthetic.appearance_factors import AppearanceFactors
from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.eyes import EyePainter
from facemtl.data.synthetic.hair import HairPainter, hair_absorbance, hair_amounts
from facemtl.data.synthetic.hair_fields import HairField, hair_field
from facemtl.data.synthetic.hair_shell import CURTAIN_CELL, curtain_mesh, curtain_vertices, hair_thickness
from facemtl.data.synthetic.head_model import HeadModel
from facemtl.data.synthetic.moved import moved
from facemtl.data.synthetic.noise import smooth_noise
from facemtl.data.synthetic.person import Traits
from facemtl.data.synthetic.render import Heads
from facemtl.data.synthetic.skin import SkinPainter
from facemtl.data.synthetic.surface_maps import draw_surface_maps
from facemtl.data.synthetic.topology import smooth_normals, topology_of, triangle_frames


class Appearance(nn.Module):
    """Dress heads: paint their maps, raise their scalps by their hair and hang long hair behind them.

    Args:
        head: The model of the heads.
        size: Width and height of the maps; 384 suits faces of 112 pixels.
    """

    _openness: Tensor
    _curtain_strands: Tensor
    _scalp: Tensor

    def __init__(self, head: HeadModel, *, size: int = 384) -> None:
        super().__init__()
        maps = draw_surface_maps(head, size=size)
        self.size = size
        self.skin, self.hair, self.eyes = SkinPainter(maps), HairPainter(maps), EyePainter(size)
        curtain = curtain_mesh()
        triangles = torch.cat((head.triangles, curtain.triangles + head.num_vertices))
        places = torch.cat((head.texture_coordinates, curtain.texture_coordinates))
        self._topology = topology_of(triangles, places, num_vertices=head.num_vertices + len(curtain.openness))
        self._bare = topology_of(head.triangles, head.texture_coordinates, num_vertices=head.num_vertices)
        adult = head.average_adult()
        outside = torch.zeros(head.num_vertices)
        outside[head.triangles[head.islands == int(Island.HEAD)].unique()] = 1.0
        cell = CURTAIN_CELL
        self._cell = tuple(round(edge * size) for edge in (cell.top, cell.bottom, cell.left, cell.right))
        rows, columns = self._cell[1] - self._cell[0] + 4, self._cell[3] - self._cell[2] + 4
        field = hair_field(adult)
        for name, value in (
            ("_openness", torch.cat((head.occlusion, curtain.openness))),
            ("_curtain_strands", smooth_noise(101, (rows, columns), (60.0, 2.0))),
            ("_scalp", outside * (1 - head.regions[:, 2])),
            *((f"_field_{label}", part) for label, part in field._asdict().items()),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self, factors: AppearanceFactors, traits: Traits, ages: Tensor, head: HeadModel, vertices: Tensor
    ) -> Heads:
        """Return the dressed heads of people whose bare heads have ``vertices`` ``(batch, vertices, 3)``."""
        field = HairField(*(getattr(self, f"_field_{label}") for label in HairField._fields))
        thickness = hair_thickness(factors, traits, ages, field) * self._scalp
        bare = moved(self._bare, vertices.device)
        normals = smooth_normals(triangle_frames(vertices, bare), bare)
        raised = vertices + thickness[..., None] * normals
        curtain = curtain_vertices(factors, ages, raised)
        return Heads(
            vertices=torch.cat((raised, curtain), 1),
            landmarks=head.landmarks(vertices),
            openness=self._openness,
            maps=self.paint(factors, traits, ages),
            topology=moved(self._topology, vertices.device),
        )

    def paint(self, factors: AppearanceFactors, traits: Traits, ages: Tensor) -> Tensor:
        """Return ``(batch, 6, size, size)`` maps: linear albedo, height in centimetres, gloss, scattering."""
        skin, hair = self.skin(factors, ages), self.hair(factors, traits, ages)
        cover = hair.cover[:, None]
        albedo = torch.exp(-skin.absorbance)
        albedo = albedo + cover * (hair.albedo - albedo)
        height = skin.height * (1 - hair.cover) + hair.height
        gloss = skin.gloss + hair.cover * (0.42 - skin.gloss)
        maps = torch.cat((albedo, torch.stack((height, gloss, 1 - hair.cover), 1)), 1)
        self.eyes.place(maps, self.eyes(factors, ages))
        self._paint_curtain(maps, factors, traits, ages)
        return maps

    def _paint_curtain(self, maps: Tensor, factors: AppearanceFactors, traits: Traits, ages: Tensor) -> None:
        top, bottom, left, right = self._cell
        part = maps[:, :, top - 2 : bottom + 2, left - 2 : right + 2]
        grey, _, _ = hair_amounts(factors, traits, ages)
        pigment = hair_absorbance(factors, grey, ages)[:, :, None, None]
        part[:, :3] = torch.exp(-pigment - 0.32 * self._curtain_strands).clamp(0.004, 0.8)
        part[:, 3], part[:, 4], part[:, 5] = 0.06 * self._curtain_strands, 0.42, 0.0
