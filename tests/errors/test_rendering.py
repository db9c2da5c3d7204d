"""Messages of the renderer."""

from __future__ import annotations

import pytest
import torch

from facemtl.data.synthetic.background import draw_background
from facemtl.data.synthetic.render import Heads, render
from facemtl.data.synthetic.topology import topology_of
from tests.meshes import ambient_light, frontal_camera, spheres


def _render(heads: Heads) -> None:
    render(heads, camera=frontal_camera(2), light=ambient_light(2), background=draw_background(0, torch.arange(2)))


def test_shapes_are_named() -> None:
    heads = spheres(2)
    with pytest.raises(
        ValueError, match=r"render: 'heads.maps' must have batch = 2 on axis 0, got shape \(1, 6, 32, 32\)"
    ):
        _render(heads._replace(maps=heads.maps[:1]))
    with pytest.raises(ValueError, match=r"'heads.maps' must have channels = 6 on axis 1, got shape \(2, 5, 32, 32\)"):
        _render(heads._replace(maps=heads.maps[:, :5]))
    with pytest.raises(ValueError, match=r"'heads.vertices' must have vertices = 425 on axis 1, got shape \(2, 9, 3\)"):
        _render(heads._replace(vertices=heads.vertices[:, :9]))
    with pytest.raises(ValueError, match=r"render: 'supersampling' must be at least 1, got 0"):
        render(
            heads,
            camera=frontal_camera(2),
            light=ambient_light(2),
            background=draw_background(0, torch.arange(2)),
            supersampling=0,
        )
    with pytest.raises(
        ValueError, match=r"topology_of: 'texture_coordinates' must have shape \(1, 3, 2\), got \(1, 3\)"
    ):
        topology_of(torch.tensor([[0, 1, 2]]), torch.zeros(1, 3), num_vertices=3)
