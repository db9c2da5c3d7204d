"""A discriminator that judges patches of a face, given the age group that it should show."""

from __future__ import annotations

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from facemtl._core.checks import ShapeError, check_images, check_indices
from facemtl._core.precision import without_autocast
from facemtl._core.shapes import GroupLabels, Images
from facemtl.layers.one_hot_condition import one_hot_maps

NEGATIVE_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Score each patch of an image as a real or a synthesized face of an age group.

    Six convolutions with strides 2, 2, 2, 2, 1, 1; LeakyReLU(0.2) follows all but the last. One-hot maps of the age
    group join the features after the first. The weights are divided by their largest singular value (spectral
    normalisation), which bounds how fast the score can change with the image:

    =====================  ==========================  ======================  ======================
    preset                 kernels                     map at 112 / 128 / 256  spectral norm
    =====================  ==========================  ======================  ======================
    ``paper2021`` default  4, 4, 4, 4, 3, 3            7 / 8 / 16              all but the last
    :meth:`code2021`       4, 4, 4, 4, 4, 4            5 / 6 / 14              all but first and last
    =====================  ==========================  ======================  ======================

    Args:
        num_groups: Age groups.
        width: Channels after the first convolution; the others have 2, 4, 8, 8 times as many, and 1.
        last_kernel_size: Kernel of the two convolutions of stride 1: 3 (paper) or 4 (released code).
        normalise_first: Whether the first convolution has spectral norm too.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - images: ``(batch, 3, height, width)`` in [-1, 1], any sides of at least 16 pixels (48 with kernels of 4).
        - groups: ``(batch,)``.
        - Output: ``(batch, 1, rows, columns)`` scores, unbounded; with kernels of 3 a row for every 16 pixels, with 4
          two fewer.

    Raises:
        ShapeError: If an input has the wrong rank, channels or batch, or the images are too small for a map of scores.
        TypeError: If ``images`` are not floating point (``uint8``, say) or ``groups`` not integer.
        ValueError: If a group lies outside [0, ``num_groups``); at construction, for sizes that are not positive or
            another kernel.

    Note:
        The norm is torch's parametrized `torch.nn.utils.parametrizations.spectral_norm`, so the module can be
        deep-copied (for an average of weights) but not pickled whole: save its state dict, which holds the singular
        vectors. Each forward pass in train mode moves these by one power iteration, under ``torch.no_grad`` too; in
        eval mode they stay, and the score is a fixed function. Norms are computed in the weights' own precision inside
        autocast. Weights start at torch's defaults. After ``to_empty`` from the meta device, load a state dict.

    References:
        MTLFace (CVPR 2021), supplement B; Isola et al., "Image-to-Image Translation with Conditional Adversarial
        Networks", CVPR 2017; Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.

    Example:
        >>> import torch
        >>> discriminator = PatchDiscriminator(width=8)
        >>> images, groups = torch.rand(2, 3, 112, 112) * 2 - 1, torch.tensor([0, 6])
        >>> discriminator(images, groups).shape
        torch.Size([2, 1, 7, 7])
        >>> PatchDiscriminator.code2021(width=8)(images, groups).shape
        torch.Size([2, 1, 5, 5])
    """

    def __init__(
        self,
        num_groups: int = 7,
        *,
        width: int = 64,
        last_kernel_size: Literal[3, 4] = 3,
        normalise_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_groups", num_groups), ("width", width)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: '{name}' must be positive, got {value}.")
        if last_kernel_size not in (3, 4):
            raise ValueError(f"{type(self).__name__}: 'last_kernel_size' must be 3 or 4, got {last_kernel_size}.")
        self.num_groups = num_groups
        self.smallest_image = 16 if last_kernel_size == 3 else 48
        inputs = (3, width + num_groups, 2 * width, 4 * width, 8 * width, 8 * width)
        outputs = (width, 2 * width, 4 * width, 8 * width, 8 * width, 1)
        kernels = (4, 4, 4, 4, last_kernel_size, last_kernel_size)
        strides = (2, 2, 2, 2, 1, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*layer, padding=1, device=device, dtype=dtype)
            for layer in zip(inputs, outputs, kernels, strides, strict=True)
        )
        for convolution in self.convolutions[0 if normalise_first else 1 : -1]:
            spectral_norm(convolution)

    @classmethod
    def code2021(
        cls,
        num_groups: int = 7,
        *,
        width: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> PatchDiscriminator:
        """Return the released training code's variant: kernels of 4 throughout, no spectral norm on the first."""
        return cls(num_groups, width=width, last_kernel_size=4, normalise_first=False, device=device, dtype=dtype)

    def forward(self, images: Images, groups: GroupLabels) -> Float[Tensor, "batch 1 rows columns"]:
        """Return the scores of ``images`` as faces of ``groups``: the higher, the more real."""
        self._check_inputs(images, groups)
        first, *middle, last = cast("list[nn.Conv2d]", list(self.convolutions))
        hidden = F.leaky_relu(_convolve(first, images), NEGATIVE_SLOPE)
        hidden = torch.cat([hidden, one_hot_maps(groups, self.num_groups, hidden)], dim=1)
        for convolution in middle:
            hidden = F.leaky_relu(_convolve(convolution, hidden), NEGATIVE_SLOPE)
        return _convolve(last, hidden)

    def _check_inputs(self, images: Tensor, groups: Tensor) -> None:
        where = type(self).__name__
        check_images(where, "images", images)
        height, width = images.shape[2:]
        if min(height, width) < self.smallest_image:
            raise ShapeError(
                f"{where}: 'images' must have sides of at least {self.smallest_image} pixels for a map of scores, "
                f"got {height} x {width}. Resize the images{_smaller_kernel_advice(self.smallest_image)}."
            )
        check_indices(where, "groups", groups, batch=images.shape[0], limit=self.num_groups, limit_name="num_groups")


def _smaller_kernel_advice(smallest_image: int) -> str:
    return " or construct with last_kernel_size=3" if smallest_image > 16 else ""


def _convolve(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """Apply ``convolution``, its normalised weight computed outside autocast: sigma needs full precision."""
    with without_autocast(features):
        weight = convolution.weight
    return F.conv2d(features, weight, convolution.bias, convolution.stride, padding=1)
