from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.layers.ir_unit import IRUnit
from facemtl.layers.squeeze_excitation import SqueezeExcitation
from facemtl.networks.iresnet import IRBackbone, IRResNet


@pytest.fixture(scope="module")
def backbone() -> IRBackbone:
    return IRBackbone(18, width=1).eval()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 112, 100), r"positive multiples of 16, got 112 x 100"),
        ((1, 3, 120, 112), r"positive multiples of 16, got 120 x 112"),
        ((1, 3, 0, 16), r"positive multiples of 16, got 0 x 16"),
        ((1, 1, 16, 16), r"RGB channels = 3 on axis 1, got shape \(1, 1, 16, 16\)"),
        ((3, 16, 16), r"must have shape \(batch, 3, height, width\), got \(3, 16, 16\). Add a batch axis"),
    ],
)
def test_images_of_another_shape_are_refused(backbone: IRBackbone, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        backbone(torch.zeros(shape))


def test_integer_images_are_refused(backbone: IRBackbone) -> None:
    with pytest.raises(TypeError, match=r"floating-point dtype, got torch.uint8. Scale pixels"):
        backbone(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="'depth' must be one of 18, 34, 50, 100, 152, got 101"):
        IRBackbone(101)
    with pytest.raises(ValueError, match="'shortcut' must be 'subsample' or 'projection', got 'pool'"):
        IRBackbone(shortcut="pool")
    with pytest.raises(ValueError, match="'width' must be at least 1, got 0"):
        IRBackbone(width=0)
    with pytest.raises(ValueError, match="'image_size' must be positive multiples of 16, got 112 x 100"):
        IRResNet(image_size=(112, 100))
    with pytest.raises(ValueError, match="'image_size' must be positive multiples of 16, got 0 x 0"):
        IRResNet(image_size=0)
    with pytest.raises(ValueError, match="'projection' must be on where channels differ, got 4 to 8 channels"):
        IRUnit(4, 8, projection=False)
    with pytest.raises(ValueError, match="'reduction' must be at least 1, got 0"):
        SqueezeExcitation(8, reduction=0)


def test_an_image_of_another_size_than_the_recogniser_was_built_for_is_refused() -> None:
    network = IRResNet(18, width=1, image_size=32, embedding_dimension=2).eval()
    with pytest.raises(ShapeError, match=r"height x width = 2 x 2, as an encoder makes them of images of 32 x 32"):
        network(torch.zeros(1, 3, 48, 32))


def test_units_name_wrong_channels() -> None:
    with pytest.raises(ShapeError, match=r"channels = 4 on axis 1, got shape \(1, 3, 5, 5\)"):
        IRUnit(4, 4)(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ShapeError, match=r"channels = 4 on axis 1, got shape \(1, 3, 5, 5\)"):
        IRUnit(4, 4).for_inference()(torch.zeros(1, 3, 5, 5))
