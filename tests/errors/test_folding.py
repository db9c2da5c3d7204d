from __future__ import annotations

import pytest
import torch
from torch import nn

from facemtl._core.checks import ShapeError
from facemtl.layers.bias_map import BiasMapConv2d
from facemtl.layers.folding import fold_after, fold_before


def test_layers_that_do_not_fit_are_refused() -> None:
    norm = nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match="'layer' must take the norm's 4 channels, got in_channels = 3"):
        fold_before(norm, nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="'layer' must take a multiple of the norm's 4 channels, got in_features = 6"):
        fold_before(norm, nn.Linear(6, 1))
    with pytest.raises(ValueError, match="'norm' must give the layer's 3 channels, got num_features = 4"):
        fold_after(nn.Conv2d(3, 3, 1), norm)


def test_norms_without_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="'norm' must have running statistics, got track_running_stats=False"):
        fold_after(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))


def test_bias_map_names_wrong_channels() -> None:
    with pytest.raises(ShapeError, match=r"channels = 2 on axis 1, got shape \(1, 3, 4, 4\)"):
        BiasMapConv2d(2, 2, 3)(torch.zeros(1, 3, 4, 4))
