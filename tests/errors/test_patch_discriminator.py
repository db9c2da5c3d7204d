from __future__ import annotations

import pickle

import pytest
import torch

from facemtl import ShapeError
from facemtl.networks.patch_discriminator import PatchDiscriminator

discriminator = PatchDiscriminator(width=2)
groups = torch.tensor([0, 6])


def test_images() -> None:
    with pytest.raises(
        ShapeError, match=r"'images' must have sides of at least 16 pixels .* got 15 x 32. Resize the images\."
    ):
        discriminator(torch.zeros(2, 3, 15, 32), groups)
    with pytest.raises(
        ShapeError, match=r"at least 48 pixels .* got 112 x 47. Resize the images or construct with last_kernel_size=3"
    ):
        PatchDiscriminator.code2021(width=2)(torch.zeros(2, 3, 112, 47), groups)
    with pytest.raises(TypeError, match=r"'images' must have a floating-point dtype, got torch.uint8. Scale pixels"):
        discriminator(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), groups)
    with pytest.raises(ShapeError, match=r"'images' must have RGB channels = 3 on axis 1, got shape \(2, 4, 32, 32\)"):
        discriminator(torch.zeros(2, 4, 32, 32), groups)
    with pytest.raises(ShapeError, match=r"'images' must have shape \(batch, 3, height, width\), got \(3, 32, 32\)"):
        discriminator(torch.zeros(3, 32, 32), groups)


def test_groups() -> None:
    images = torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"'groups' must lie in \[0, num_groups\) = \[0, 7\); got 7 at index 1"):
        discriminator(images, torch.tensor([0, 7]))
    with pytest.raises(ValueError, match="got -1 at index 0"):
        discriminator(images, torch.tensor([-1, 0]))
    with pytest.raises(ShapeError, match=r"'groups' must have batch = 2 on axis 0, got shape \(3,\)"):
        discriminator(images, torch.tensor([0, 1, 2]))
    with pytest.raises(TypeError, match="'groups' must have dtype int64 or int32, got torch.float32"):
        discriminator(images, torch.zeros(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 0}, "'num_groups' must be positive, got 0"),
        ({"width": 0}, "'width' must be positive, got 0"),
        ({"last_kernel_size": 5}, "'last_kernel_size' must be 3 or 4, got 5"),
    ],
)
def test_construction(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"PatchDiscriminator: {message}"):
        PatchDiscriminator(**options)


def test_pickling_whole_is_refused_by_torch() -> None:
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(discriminator)
