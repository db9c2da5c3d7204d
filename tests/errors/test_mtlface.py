from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.networks.mtlface import MTLFace
from facemtl.networks.projected_backbone import ProjectedBackbone
from tests.contract.cases_mtlface import PooledBackbone, small_mtlface


@pytest.fixture(scope="module")
def model() -> MTLFace:
    return small_mtlface()


@pytest.mark.parametrize("verb", ["embed", "estimate_age", "age_to"])
def test_verbs_refuse_pixels_that_are_not_pixels(model: MTLFace, verb: str) -> None:
    images = torch.zeros(2, 3, 32, 32)
    images[1, 2, 5, 6] = 200.0
    with pytest.raises(
        ValueError, match=rf"MTLFace.{verb}: 'images' must be finite and lie in \[-1, 1\]; got 200.0 at"
    ):
        getattr(model, verb)(images)
    images[1, 2, 5, 6] = float("nan")
    with pytest.raises(ValueError, match=r"got nan at index \(1, 2, 5, 6\)"):
        getattr(model, verb)(images)
    with pytest.raises(TypeError, match="got torch.uint8. Scale pixels with facemtl.to_model_input"):
        getattr(model, verb)(images.nan_to_num().byte())
    with pytest.raises(ShapeError, match=r"got \(3, 32, 32\). Add a batch axis"):
        getattr(model, verb)(torch.zeros(3, 32, 32))
    with pytest.raises(ShapeError, match="multiples of 16, got 40 x 32"):
        getattr(model, verb)(torch.zeros(1, 3, 40, 32))


def test_target_groups_are_checked(model: MTLFace) -> None:
    images = torch.zeros(2, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"'groups' must lie in \[0, age_groups.num_groups\) = \[0, 7\); got 7 at index 0"
    ):
        model.age_to(images, 7)
    with pytest.raises(ValueError, match="got -1 at index 1"):
        model.age_to(images, torch.tensor([0, -1]))
    with pytest.raises(ShapeError, match=r"must have shape \(2,\) or \(2, targets\), got \(3,\)"):
        model.age_to(images, torch.tensor([0, 1, 2]))
    with pytest.raises(TypeError, match=r"must be a number, a tensor or None, got \[1, 2\]"):
        model.age_to(images, [1, 2])  # type: ignore[arg-type]


def test_options_are_checked() -> None:
    with pytest.raises(TypeError, match="unknown option 'widht'. Options are depth, width"):
        MTLFace.paper2021(widht=16)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="'image_size' must be positive multiples of 16, got 100 x 112"):
        MTLFace.paper2021(width=8, depth=18, image_size=(100, 112))


def test_a_backbone_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ValueError, match=r"'backbone_channels' must name 4 maps .* got \(5, 5\)"):
        ProjectedBackbone(PooledBackbone(), (5, 5))
    encoder = ProjectedBackbone(PooledBackbone(), (5, 5, 5, 6))
    with pytest.raises(ShapeError, match=r"\(6, 2, 2\)\] for images of shape \(1, 3, 32, 32\), got .*\(5, 2, 2\)\]"):
        encoder(torch.zeros(1, 3, 32, 32))
