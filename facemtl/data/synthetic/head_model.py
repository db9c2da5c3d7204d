"""The head as a function of person, age and expression: everything is one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_ages, check_size
from facemtl.data.synthetic.ageing_shape import (
    anchor_weights,
    childhood_share,
    fatness_changes,
    late_changes,
    late_share,
)
from facemtl.data.synthetic.head_asset import ANCHOR_YEARS, HeadAsset, SparseShapes, read_head_asset
from facemtl.data.synthetic.person import AGEING_RATES, Traits

_GROWN = 3  # of the anchors
_FATTENING = AGEING_RATES.index("fattening")


class HeadModel(nn.Module):
    """Give the vertices of heads.

    The base is MakeHuman's, by way of the asset that ships: averages of both sexes, five ages and three ancestries,
    between which a person lies; local changes that make the person; facial actions that make the expression. All are
    added up, so the vertices are linear in each and differentiable.

    Args:
        asset: By default the one that ships with facemtl.

    Shape:
        - Output: ``(batch, vertices, 3)`` centimetres, x to the viewer's right, y up, z to the viewer; the origin
          between the eyes of the average face of that age.

    Example:
        >>> import torch
        >>> from facemtl.data.synthetic.person import draw_traits
        >>> head = HeadModel()
        >>> people = draw_traits(0, torch.tensor([3, 3]), head.change_names)
        >>> vertices = head(people, torch.tensor([8.0, 60.0]))
        >>> head.landmarks(vertices).shape
        torch.Size([2, 5, 3])
    """

    triangles: Tensor
    texture_coordinates: Tensor
    islands: Tensor
    occlusion: Tensor
    regions: Tensor
    landmark_vertices: Tensor
    iris_vertices: Tensor
    _basis: Tensor
    _late: Tensor
    _fat: Tensor

    def __init__(self, asset: HeadAsset | None = None) -> None:
        super().__init__()
        asset = asset if asset is not None else read_head_asset()
        self.change_names = asset.changes.names[::2]
        self.action_names = asset.actions.names
        self.num_vertices = asset.people.shape[-2]
        self._num_people = asset.people.shape[:3].numel()
        basis = [
            asset.people.flatten(0, 2),
            *(_dense(shapes, self.num_vertices) for shapes in (asset.changes, asset.actions)),
        ]
        for name, buffer in (
            ("triangles", asset.triangles),
            ("texture_coordinates", asset.texture_coordinates),
            ("islands", asset.islands),
            ("occlusion", asset.occlusion),
            ("regions", asset.regions),
            ("landmark_vertices", asset.landmarks),
            ("iris_vertices", asset.irises),
            ("_basis", torch.cat(basis).flatten(1)),
            ("_late", late_changes(self.change_names)),
            ("_fat", fatness_changes(self.change_names)),
        ):
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, traits: Traits, ages: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the vertices of people at ``ages`` ``(batch,)`` in years, with ``actions`` ``(batch, actions)``."""
        batch = traits.gender.shape[0]
        check_ages("HeadModel.forward", "ages", ages, batch=batch, highest=100)
        if actions is None:
            actions = self._basis.new_zeros(batch, len(self.action_names))
        check_size("HeadModel.forward", "actions", actions, 1, "actions", len(self.action_names))
        ages = ages.to(self._basis.dtype)
        changes = self.changes_at(traits, ages)
        pairs = torch.stack((changes.clamp_min(0), (-changes).clamp_min(0)), -1).flatten(1)
        weights = (_base_weights(traits, ages), pairs, actions)
        return (torch.cat(weights, 1) @ self._basis).unflatten(1, (self.num_vertices, 3))

    def changes_at(self, traits: Traits, ages: Tensor) -> Tensor:
        """Return ``(batch, changes)``, the person's local changes with those of fatness and of age."""
        own = traits.changes * (1 - 0.45 * childhood_share(ages))[:, None]
        late = (late_share(ages)[:, None] * traits.ageing) @ self._late
        return own + fatness_at(traits, ages)[:, None] * self._fat + late

    def average_adult(self) -> Tensor:
        """Return ``(vertices, 3)``, the mean of the young women and men of all ancestries."""
        return (
            self._basis[: self._num_people].view(2, len(ANCHOR_YEARS), -1, self.num_vertices, 3)[:, _GROWN].mean((0, 1))
        )

    def landmarks(self, vertices: Tensor) -> Tensor:
        """Return the landmarks ``(batch, 5, 3)``: irises, the viewer's left first, tip of the nose, mouth corners."""
        return torch.cat((vertices[:, self.iris_vertices].mean(2), vertices[:, self.landmark_vertices[2:]]), 1)


def fatness_at(traits: Traits, ages: Tensor) -> Tensor:
    """Return ``(batch,)``: people put on weight, each as they do, from 20 to 60, and lose some of it when very old."""
    gained = 0.4 * ((ages - 20) / 40).clamp(0, 1) * (traits.ageing[:, _FATTENING] - 0.5)
    lost = 0.3 * (late_share(ages) - 0.8).clamp_min(0)
    return (traits.fatness + gained - lost) * (1 - 0.6 * childhood_share(ages))


def _base_weights(traits: Traits, ages: Tensor) -> Tensor:
    """``(batch, 30)``: of the averages, by sex, age and ancestry."""
    sex = torch.stack((1 - traits.masculinity, traits.masculinity), 1)
    return torch.einsum("bs,ba,bc->bsac", sex, anchor_weights(ages), traits.ancestry).flatten(1)


def _dense(shapes: SparseShapes, num_vertices: int) -> Tensor:
    dense = torch.zeros(len(shapes.names), num_vertices, 3)
    for row, (vertices, offsets) in enumerate(zip(shapes.vertices, shapes.offsets, strict=True)):
        dense[row, vertices] = offsets
    return dense
