"""The IR encoders: ArcFace's improved ResNets of 18 to 152 layers, at any width and image size."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from facemtl._core.checks import check_images
from facemtl._core.shapes import Images
from facemtl.layers.embedding import EmbeddingHead
from facemtl.layers.inference import folded_copy
from facemtl.layers.ir_unit import IRUnit, Stem

Shortcut = Literal["subsample", "projection"]

UNITS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
"""Units of the four stages by depth."""

STRIDE = 16
"""Rows of the image for one row of the final map."""


class PyramidFeatures(NamedTuple):
    """Maps of an encoder, coarse to fine in meaning: the last one apart, the others as levels."""

    map: Tensor
    """The final map, at 1/16 of the image."""
    levels: tuple[Tensor, ...]
    """The maps before it, finest first. The stem's has full size, the others 1/2, 1/4 and 1/8."""


class IRFeatures(NamedTuple):
    """What a recogniser knows of faces: the embedding, and the maps that it came from."""

    embedding: Tensor
    """``(batch, embedding_dimension)``, not of unit length."""
    map: Tensor
    """The final map, at 1/16 of the image."""
    levels: tuple[Tensor, ...]
    """The maps before it, finest first."""


def map_size_of(where: str, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the final map of images of ``image_size``, a side or height and width in pixels."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % STRIDE or width % STRIDE or min(height, width) < STRIDE:
        raise ValueError(f"{where}: 'image_size' must be positive multiples of {STRIDE}, got {height} x {width}.")
    return height // STRIDE, width // STRIDE


class IRBackbone(nn.Module):
    """The convolutional part of an IR encoder: images to maps at 1, 1/2, 1/4, 1/8 and 1/16 of their size.

    A stem and four stages of :class:`~facemtl.layers.ir_unit.IRUnit`; the first unit of each stage halves the map.
    Works on images of any size that is a multiple of 16.

    Args:
        depth: 18, 34, 50, 100 (the one also called 101) or 152.
        squeeze_excitation: The SE variant: a squeeze-and-excitation with reduction 16 in each unit.
        shortcut: What passes by the units that change the size. ``"subsample"``: every second pixel where the channels
            stay, else a 1×1 convolution with a norm (the released code); ``"projection"``: the 1×1 convolution with a
            norm in the first unit of every stage (insightface's iresnet). They differ in stage 1 only.
        width: Channels of stem and first stage; the others have 2, 4 and 8 times as many. 64 in the papers, 16 for a
            quarter-width network.
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Attributes:
        channels: Channels of the final map: ``8 * width``.
        level_channels: Channels of the levels: ``(width, width, 2 * width, 4 * width)``.

    Shape:
        - Images: ``(batch, 3, height, width)``, RGB in [-1, 1].
        - Output: :class:`PyramidFeatures`: ``map`` ``(batch, channels, height/16, width/16)`` and four levels.

    Raises:
        ShapeError: If the images have another shape than above, or sides that are no multiples of 16.
        TypeError: If the images are not floating point.
        ValueError: If ``depth``, ``shortcut`` or ``width`` is none of the above.

    Training:
        Convolutions start from Xavier's uniform distribution. A batch of one trains, down to images of 16×16.

    References:
        Deng et al., "ArcFace", CVPR 2019, section 3.1; Huang et al., MTLFace, CVPR 2021, section 4.1.

    Example:
        >>> import torch
        >>> features = IRBackbone(18, width=8)(torch.zeros(2, 3, 112, 96))
        >>> features.map.shape, [tuple(level.shape[1:]) for level in features.levels]
        (torch.Size([2, 64, 7, 6]), [(8, 112, 96), (8, 56, 48), (16, 28, 24), (32, 14, 12)])
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        squeeze_excitation: bool = False,
        shortcut: Shortcut = "subsample",
        width: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if depth not in UNITS_PER_STAGE:
            raise ValueError(f"IRBackbone: 'depth' must be one of {', '.join(map(str, UNITS_PER_STAGE))}, got {depth}.")
        if shortcut not in get_args(Shortcut):
            raise ValueError(f"IRBackbone: 'shortcut' must be 'subsample' or 'projection', got {shortcut!r}.")
        if width < 1:
            raise ValueError(f"IRBackbone: 'width' must be at least 1, got {width}.")
        self.channels = 8 * width
        self.level_channels = (width, width, 2 * width, 4 * width)

        def stage(number: int) -> nn.Sequential:
            source, target = self.level_channels[number - 1], width * 2 ** (number - 1)
            units = [
                IRUnit(
                    target if unit else source,
                    target,
                    stride=1 if unit else 2,
                    projection=True if shortcut == "projection" and unit == 0 else None,
                    squeeze_excitation=squeeze_excitation,
                    device=device,
                    dtype=dtype,
                )
                for unit in range(UNITS_PER_STAGE[depth][number - 1])
            ]
            return nn.Sequential(*units)

        self.stem = Stem(width, device=device, dtype=dtype)
        self.stage1, self.stage2, self.stage3, self.stage4 = (stage(number) for number in (1, 2, 3, 4))

    def forward(self, images: Images) -> PyramidFeatures:
        """Return the maps of ``images``."""
        check_images("IRBackbone.forward", "images", images, multiple_of=STRIDE)
        full = self.stem(images)
        half = self.stage1(full)
        quarter = self.stage2(half)
        eighth = self.stage3(quarter)
        return PyramidFeatures(self.stage4(eighth), (full, half, quarter, eighth))

    def for_inference(self) -> IRBackbone:
        """Return a frozen copy in eval mode with its norms folded.

        See :func:`~facemtl.layers.inference.fold_batch_norms`.
        """
        return folded_copy(self)


class IRResNet(nn.Module):
    """A face recogniser: an IR encoder and an embedding head.

    IR-50 on 112×112 images takes 12.6 GFLOP (two for each multiply-add) and has 43.6 M parameters. The parts are
    attributes of their own, ``backbone`` and ``embedding``; MTLFace puts its decomposition between them. The head's
    flatten ties the recogniser to one image size; the backbone alone takes any.

    Args:
        depth: 18, 34, 50, 100 or 152.
        image_size: Side, or height and width, of the images: multiples of 16.
        embedding_dimension: Length of the embedding.
        width: Channels of the stem, from which all follow; 64 in the papers.
        squeeze_excitation: The SE variant.
        shortcut: ``"subsample"`` (the released code) or ``"projection"`` (insightface); see :class:`IRBackbone`.
        dropout: Probability of dropping a value of the final map, in [0, 1): 0.5 in the released code, 0 in
            insightface's.
        device: Where the parameters are made.
        dtype: Dtype of the parameters.

    Shape:
        - Images: ``(batch, 3, *image_size)``, RGB in [-1, 1].
        - Output: :class:`IRFeatures`.

    Raises:
        ShapeError: If the images have another shape.
        TypeError: If the images are not floating point.
        ValueError: If an argument is none of the above.

    Training:
        See :class:`IRBackbone` and :class:`EmbeddingHead <facemtl.layers.embedding.EmbeddingHead>`; the embedding goes
        to a margin head such as CosFace.

    References:
        Deng et al., "ArcFace", CVPR 2019, section 3.1; Huang et al., MTLFace, CVPR 2021, section 4.1.

    Example:
        >>> import torch
        >>> network = IRResNet(18, width=8, embedding_dimension=32).eval()
        >>> network(torch.zeros(2, 3, 112, 112)).embedding.shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        depth: int = 50,
        *,
        image_size: int | tuple[int, int] = 112,
        embedding_dimension: int = 512,
        width: int = 64,
        squeeze_excitation: bool = False,
        shortcut: Shortcut = "subsample",
        dropout: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        map_size = map_size_of("IRResNet", image_size)
        self.backbone = IRBackbone(
            depth, squeeze_excitation=squeeze_excitation, shortcut=shortcut, width=width, device=device, dtype=dtype
        )
        self.embedding = EmbeddingHead(
            self.backbone.channels,
            map_size,
            dimension=embedding_dimension,
            dropout=dropout,
            device=device,
            dtype=dtype,
        )

    def forward(self, images: Images) -> IRFeatures:
        """Return embedding and maps of ``images``."""
        features = self.backbone(images)
        return IRFeatures(self.embedding(features.map), features.map, features.levels)

    def for_inference(self) -> IRResNet:
        """Return a frozen copy in eval mode with its norms folded.

        See :func:`~facemtl.layers.inference.fold_batch_norms`.
        """
        return folded_copy(self)
