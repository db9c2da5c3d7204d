"""What an alignment makes of photographs: everything that its files depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from facemtl.alignment.detection import FaceDetector, FacePolicy
from facemtl.alignment.templates import FaceTemplate
from facemtl.data.photographs import MOST_PIXELS

CropFormat = Literal["png", "jpg"]


@dataclass(frozen=True, kw_only=True)
class AlignSettings:
    """How photographs become crops. Written into the destination; continued and repeated runs must agree with it.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> AlignSettings(template=FaceTemplate.arcface((112, 96)), policy="all").suffix
        '.png'
    """

    template: FaceTemplate = field(default_factory=FaceTemplate.arcface)
    """Where the landmarks stand in the crop, and its size."""

    policy: FacePolicy = "largest"
    """Which faces of a photograph to keep; with ``"error"`` a photograph of several faces is rejected."""

    min_score: float = 0.0
    """Faces of which the detector is less sure are not seen, on top of the detector's own threshold."""

    min_face_size: float = 0.0
    """Faces whose box has a side shorter than this many pixels are not seen."""

    image_format: CropFormat = "png"
    """``"png"`` loses nothing; ``"jpg"`` takes about half the room and compresses a second time."""

    quality: int = 95
    """Of JPEG crops, 1 to 100; colour is stored at full resolution."""

    antialias: bool = True
    """Average the photograph's pixels where the face is larger than the crop."""

    max_pixels: int = 100_000_000
    """Photographs with more pixels are rejected undecoded."""

    strict: bool = True
    """Reject JPEGs that decode only with complaints (see :func:`~facemtl.data.photographs.read_photograph`)."""

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("policy", self.policy, get_args(FacePolicy)),
            ("image_format", self.image_format, get_args(CropFormat)),
        ):
            if value not in choices:
                raise ValueError(f"AlignSettings: '{name}' must be one of {choices}, got {value!r}.")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"AlignSettings: 'min_score' must lie in [0, 1], got {self.min_score}.")
        if not self.min_face_size >= 0:
            raise ValueError(f"AlignSettings: 'min_face_size' must be at least 0 pixels, got {self.min_face_size}.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"AlignSettings: 'quality' must lie in [1, 100], got {self.quality}.")
        if not 1 <= self.max_pixels <= MOST_PIXELS:
            raise ValueError(f"AlignSettings: 'max_pixels' must lie in [1, {MOST_PIXELS}], got {self.max_pixels}.")

    @property
    def suffix(self) -> str:
        """Ending of the crops' names."""
        return f".{self.image_format}"

    def record(self) -> dict[str, Any]:
        """The settings as the destination's journal keeps them."""
        return {
            "size": f"{self.template.height}x{self.template.width}",
            "template": [list(point) for point in self.template.points],
            "policy": self.policy,
            "min_score": self.min_score,
            "min_face_size": self.min_face_size,
            "format": self.image_format if self.image_format == "png" else f"jpg of quality {self.quality}",
            "antialias": self.antialias,
            "max_pixels": self.max_pixels,
            "strict": self.strict,
        }


def describe_detector(detector: FaceDetector) -> str:
    """A detector's class, options and weights in a line that is the same in the next process.

    What its ``repr`` says, if it has one of its own; else its plain attributes and a digest of its modules' weights.
    """
    if type(detector).__repr__ is not object.__repr__:
        return repr(detector)
    options = []
    for name, value in sorted(vars(detector).items()):
        if isinstance(value, torch.nn.Module):
            options.append(f"{name}={_digest(value)}")
        elif isinstance(value, (str, int, float, tuple, type(None))):
            options.append(f"{name}={value!r}")
    return f"{type(detector).__name__}({', '.join(options)})"


def _digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
