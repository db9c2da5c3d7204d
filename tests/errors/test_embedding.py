from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.layers.embedding import EmbeddingHead


@pytest.mark.parametrize("folded", [False, True])
def test_another_map_size_is_refused_with_the_image_size(folded: bool) -> None:
    head = EmbeddingHead(4, (7, 6), dimension=2).eval()
    head = head.for_inference() if folded else head
    message = r"7 x 6, as an encoder makes them of images of 112 x 96, got shape \(1, 4, 8, 6\).*map_size=\(8, 6\)"
    with pytest.raises(ShapeError, match=message):
        head(torch.zeros(1, 4, 8, 6))


def test_wrong_maps_are_refused() -> None:
    head = EmbeddingHead(4, 2, dimension=2)
    with pytest.raises(ShapeError, match=r"channels = 4 on axis 1, got shape \(1, 5, 2, 2\)"):
        head(torch.zeros(1, 5, 2, 2))
    with pytest.raises(ShapeError, match=r"\(batch, channels, height, width\), got \(1, 16\)"):
        head(torch.zeros(1, 16))
    with pytest.raises(TypeError, match="floating-point dtype, got torch.int64"):
        head(torch.zeros(1, 4, 2, 2, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "'channels' must be at least 1, got 0"),
        ({"map_size": (7, 0)}, "'map_size' must be at least 1, got 0"),
        ({"dimension": 0}, "'dimension' must be at least 1, got 0"),
        ({"dropout": 1.0}, r"'dropout' must lie in \[0, 1\), got 1.0"),
        ({"dropout": float("nan")}, r"'dropout' must lie in \[0, 1\), got nan"),
    ],
)
def test_sizes_and_dropout_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingHead(**{"channels": 2, "map_size": 2, "dimension": 2} | options)
