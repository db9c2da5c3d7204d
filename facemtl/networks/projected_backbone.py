"""Anybody's backbone in the encoder's place: 1×1 projections give its maps the channels that MTLFace wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_images, shape_text
from facemtl._core.shapes import Images
from facemtl.networks.iresnet import PyramidFeatures

STRIDES = (2, 4, 8, 16)


class ProjectedBackbone(nn.Module):
    """A backbone of the caller's own, dressed as an encoder by one 1×1 convolution for each map.

    The backbone returns four maps at 1/2, 1/4, 1/8 and 1/16 of the image, as a list (timm's ``features_only=True`` with
    ``out_indices``) or as a dict in that order (torchvision's ``create_feature_extractor``). Each is projected to the
    channels that decomposition, heads and generator are built for.

    Args:
        backbone: ``backbone(images)`` returns the four maps.
        backbone_channels: Channels of the four maps, finest first.
        channels: Channels of the projected map at 1/16 (512 in the paper).
        level_channels: Channels of the projected maps at 1/2, 1/4 and 1/8.
        device: Where the projections are made.
        dtype: Dtype of the projections.

    Shape:
        - Images: ``(batch, 3, height, width)``, sides multiples of 16.
        - Output: :class:`~facemtl.PyramidFeatures` with ``map``
          ``(batch, channels, height/16, width/16)`` and three levels.

    Raises:
        ShapeError: If the backbone returns another number of maps, or maps of other sizes or channels.

    Example:
        >>> import torch
        >>> class Toy(torch.nn.Module):
        ...     def forward(self, images):
        ...         return [torch.nn.functional.avg_pool2d(images, stride) for stride in (2, 4, 8, 16)]
        >>> encoder = ProjectedBackbone(Toy(), (3, 3, 3, 3), channels=32, level_channels=(4, 8, 16))
        >>> encoder(torch.zeros(1, 3, 112, 112)).map.shape
        torch.Size([1, 32, 7, 7])
    """

    def __init__(
        self,
        backbone: nn.Module,
        backbone_channels: Sequence[int],
        *,
        channels: int = 512,
        level_channels: tuple[int, int, int] = (64, 128, 256),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(backbone_channels) != len(STRIDES):
            raise ValueError(
                f"ProjectedBackbone: 'backbone_channels' must name {len(STRIDES)} maps (at 1/2, 1/4, 1/8, 1/16), "
                f"got {tuple(backbone_channels)}."
            )
        self.backbone = backbone
        self.backbone_channels = tuple(backbone_channels)
        self.channels = channels
        self.level_channels = level_channels
        self.projections = nn.ModuleList(
            nn.Conv2d(source, target, 1, device=device, dtype=dtype)
            for source, target in zip(self.backbone_channels, (*level_channels, channels), strict=True)
        )

    def forward(self, images: Images) -> PyramidFeatures:
        """Return the projected maps of ``images``."""
        check_images("ProjectedBackbone.forward", "images", images, multiple_of=16)
        maps = self.backbone(images)
        maps = list(maps.values() if isinstance(maps, Mapping) else maps)
        _check_maps(images, maps, self.backbone_channels)
        *levels, last = (projection(features) for projection, features in zip(self.projections, maps, strict=True))
        return PyramidFeatures(last, tuple(levels))


def _check_maps(images: Tensor, maps: list[Tensor], channels: Sequence[int]) -> None:
    height, width = images.shape[2:]
    want = [(count, height // stride, width // stride) for count, stride in zip(channels, STRIDES, strict=True)]
    got = [tuple(features.shape[1:]) for features in maps]
    if got != want:
        raise ShapeError(
            f"ProjectedBackbone.forward: 'backbone' must return maps of (channels, height, width) = {want} "
            f"for images of shape {shape_text(images)}, got {got}. Choose other layers of the backbone."
        )
