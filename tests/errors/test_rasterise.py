"""Messages of the rasteriser."""

from __future__ import annotations

import pytest
import torch

from facemtl.data.synthetic.rasterise import rasterise


def test_shapes_and_dtypes_are_named() -> None:
    triangles = torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"rasterise: 'vertices' must have shape \(batch, vertices, 3\), got \(3, 3\)"):
        rasterise(torch.zeros(3, 3), triangles, size=(4, 4))
    with pytest.raises(ValueError, match=r"'vertices' must have x, y and depth = 3 on axis 2, got shape \(1, 3, 2\)"):
        rasterise(torch.zeros(1, 3, 2), triangles, size=(4, 4))
    with pytest.raises(TypeError, match=r"'vertices' must have a floating-point dtype, got torch.int64"):
        rasterise(torch.zeros(1, 3, 3, dtype=torch.int64), triangles, size=(4, 4))
    with pytest.raises(ValueError, match=r"'triangles' must have corners = 3 on axis 1, got shape \(1, 4\)"):
        rasterise(torch.zeros(1, 4, 3), torch.tensor([[0, 1, 2, 3]]), size=(4, 4))
