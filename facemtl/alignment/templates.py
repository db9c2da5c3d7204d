"""Where the five landmarks stand in an aligned crop.

*Pixel centres*: a coordinate names the centre of a pixel, so (0, 0) is the centre of the top left pixel and a crop of
112 pixels spans -0.5 to 111.5. OpenCV, scikit-image and kornia with ``align_corners=True`` count so. x runs right,
y down; a point is (x, y), a size is (height, width).

*Order*: the eye, then the mouth corner, that the viewer sees on the left comes first (it is the person's right):
eye, eye, nose tip, mouth corner, mouth corner. ArcFace's template, MTCNN and CelebA's lists all have this order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Order of the five landmarks; left and right as the viewer sees them."""

Point = tuple[float, float]

_ARCFACE: tuple[Point, ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_FFHQ: tuple[Point, ...] = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)


@dataclass(frozen=True)
class FaceTemplate:
    """Landmarks of a face in a crop, and the crop's size.

    Args:
        points: (x, y) of each landmark in pixels of the crop, pixel centres at whole numbers. The classmethods give
            five, in the order of :data:`~facemtl.alignment.templates.LANDMARKS`.
        height: Rows of the crop.
        width: Columns of the crop.

    Raises:
        ValueError: If there are fewer than two points, one of them is not finite, or a side is not positive.

    Example:
        >>> template = FaceTemplate.arcface()
        >>> template.height, template.width, template.points[0]
        (112, 112, (38.2946, 51.6963))
        >>> FaceTemplate.arcface((112, 96)).points[0]  # SphereFace's crop: eight columns less on each side
        (30.2946, 51.6963)
    """

    points: tuple[Point, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError(f"FaceTemplate: 'points' must be at least two, got {len(self.points)}.")
        for index, point in enumerate(self.points):
            if not all(math.isfinite(value) for value in point):
                raise ValueError(f"FaceTemplate: 'points' must be finite (x, y) pairs, got {point} at index {index}.")
        for name, side in (("height", self.height), ("width", self.width)):
            if side < 1:
                raise ValueError(f"FaceTemplate: '{name}' must be at least 1 pixel, got {side}.")

    @classmethod
    def arcface(cls, size: int | tuple[int, int] = 112) -> FaceTemplate:
        """ArcFace's five points, which MTLFace and nearly every public face model were trained on.

        The template is 112×112. A taller or narrower crop, such as SphereFace's ``(112, 96)``, has rows or columns
        added or taken on both sides; the square 224 is the square 112 at twice the scale, so that averaging its
        pixels 2×2 gives the 112 crop. Between the two: the scale is ``height / 112``, and the width is cut or padded
        about the middle.

        Args:
            size: Side of a square crop, or (height, width).

        Example:
            >>> FaceTemplate.arcface(224).points[0]  # 2 * (38.2946 + 0.5) - 0.5, pixel centres kept
            (77.0892, 103.8926)

        References:
            Deng et al., ArcFace (CVPR 2019), whose released code has the points.
        """
        return _standard(_ARCFACE, 112, size)

    @classmethod
    def insightface(cls, size: int = 112) -> FaceTemplate:
        """The template as insightface's own code scales it, for crops that must equal its crops.

        Multiples of 128 have the 112 template shifted eight pixels right; and points are multiplied by the scale as
        if coordinates named the corners of pixels, half a pixel off at twice the size. At 112 this is
        :meth:`arcface`.

        Args:
            size: Side of the square crop, a multiple of 112 or of 128.

        Raises:
            ValueError: If ``size`` is a multiple of neither.
        """
        if size < 1 or (size % 112 and size % 128):
            raise ValueError(f"FaceTemplate.insightface: 'size' must be a multiple of 112 or of 128, got {size}.")
        base, shift = (112, 0.0) if size % 112 == 0 else (128, 8.0)
        scale = size / base
        return cls(tuple((_tidy((x + shift) * scale), _tidy(y * scale)) for x, y in _ARCFACE), size, size)

    @classmethod
    def ffhq(cls, size: int | tuple[int, int] = 512) -> FaceTemplate:
        """Five points of FFHQ-like crops, which face restorers and StyleGAN encoders (SAM among them) are fed with.

        They are the mean landmarks of FFHQ's crops, as face restorers use them: wider than :meth:`arcface`, with hair
        and chin. FFHQ itself was cropped from 68 landmarks; this is its five-point stand-in.

        Args:
            size: Side of a square crop, or (height, width).
        """
        return _standard(_FFHQ, 512, size)

    def resized(self, height: int, width: int | None = None) -> FaceTemplate:
        """Return the same view at another resolution, pixel centres kept.

        Args:
            height: Rows of the new crop.
            width: Columns; by default the proportion is kept (and must come out whole).

        Raises:
            ValueError: If ``height`` and ``width`` have another proportion, as a similarity cannot squeeze a face.

        Example:
            >>> FaceTemplate.arcface((112, 96)).resized(224).width
            192
        """
        scale = height / self.height
        wanted = self.width * scale
        if width is None and wanted == round(wanted):
            width = round(wanted)
        if width != wanted:
            got = f"{height} x {width}" if width is not None else f"{height} x {wanted:g}"
            raise ValueError(
                f"FaceTemplate.resized: the size must keep the proportion of {self.height} x {self.width} in whole "
                f"pixels, got {got}."
            )
        return FaceTemplate(_scaled(self.points, scale), height, width)

    def tensor(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
        """The points as a ``(points, 2)`` tensor of (x, y)."""
        return torch.tensor(self.points, dtype=dtype, device=device)


def _standard(points: tuple[Point, ...], side: int, size: int | tuple[int, int]) -> FaceTemplate:
    """Scale a square template to the height wanted, then cut or pad its columns about the middle."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"FaceTemplate: 'size' must be positive, got {size}.")
    scale = height / side
    shift = (width - side * scale) / 2
    return FaceTemplate(tuple((_tidy(x + shift), y) for x, y in _scaled(points, scale)), height, width)


def _scaled(points: tuple[Point, ...], scale: float) -> tuple[Point, ...]:
    return tuple((_tidy((x + 0.5) * scale - 0.5), _tidy((y + 0.5) * scale - 0.5)) for x, y in points)


def _tidy(value: float) -> float:
    """Drop the last digits of a float sum: the published points have four decimals."""
    return round(value, 10)
