"""Aligned face crops from photographs: fit a similarity for each face, then sample the crop."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, check_floating, check_indices, check_rank, check_values, shape_text
from facemtl._core.precision import without_autocast
from facemtl.alignment.antialias import sample_areas
from facemtl.alignment.sampling import Padding, sample_bilinear
from facemtl.alignment.similarity import estimate_similarity, invert_similarity
from facemtl.alignment.templates import FaceTemplate


class AlignedFaces(NamedTuple):
    """Crops, and how each came out of its photograph."""

    crops: Float[Tensor, "faces 3 height width"] | UInt8[Tensor, "faces 3 height width"]
    """In [-1, 1], or uint8; mid grey where ``valid`` is false."""

    matrices: Float[Tensor, "faces 2 3"]
    """Photograph to crop: :func:`~facemtl.alignment.similarity.invert_similarity` gives the way back."""

    valid: Bool[Tensor, " faces"]
    """Whether the landmarks determine a crop."""

    problems: Integer[Tensor, " faces"]
    """A :class:`~facemtl.alignment.similarity.LandmarkProblem` for each face, int64."""

    residuals: Float[Tensor, " faces"]
    """Root mean square distance of the carried landmarks from the template, in pixels of the crop."""


class FaceAligner(nn.Module):
    """Cut out faces so that their landmarks come to stand on a template.

    Args:
        template: Where the landmarks go, and the crops' size.
        antialias: Average over the area that a pixel of the crop covers, where it covers more than one.
        padding: What is outside the photograph: black (``"zeros"``) or the nearest pixel (``"border"``).
        output: Crops in [-1, 1] (``"model"``), or uint8 in 0 to 255 (``"uint8"``, without gradient).
        invalid: Bad landmarks give a grey crop that ``valid`` and ``problems`` tell of (``"mask"``), or raise
            (``"error"``).

    Raises:
        ValueError: If an option is none of its values.

    Example:
        >>> template = FaceTemplate.arcface(112)
        >>> photographs = torch.randint(256, (2, 3, 300, 300), dtype=torch.uint8)
        >>> landmarks = (1.5 * template.tensor() + 40).expand(2, 5, 2)
        >>> faces = FaceAligner(template)(photographs, landmarks)
        >>> faces.crops.shape, faces.valid.tolist()
        (torch.Size([2, 3, 112, 112]), [True, True])
    """

    def __init__(
        self,
        template: FaceTemplate | None = None,
        *,
        antialias: bool = True,
        padding: Padding = "zeros",
        cv2_compat: bool = False,
        output: Literal["model", "uint8"] = "model",
        invalid: Literal["mask", "error"] = "mask",
        backend: Literal["auto", "torch", "opencv"] = "auto",
    ) -> None:
        super().__init__()
        self.template = FaceTemplate.arcface() if template is None else template
        self.antialias = antialias
        self.padding = padding
        self.cv2_compat = cv2_compat
        self.output = output
        self.invalid = invalid
        self.backend = backend

    def forward(
        self,
        images: Tensor | list[Tensor],
        landmarks: Float[Tensor, "faces points 2"],
        *,
        image_index: Integer[Tensor, " faces"] | None = None,
    ) -> AlignedFaces:
        """Align the faces of ``images``.

        Args:
            images: RGB ``(images, 3, height, width)``, or a list of ``(3, height, width)`` of different sizes: uint8, or
                floating point in [-1, 1].
            landmarks: (x, y) of each landmark in its photograph, in pixels, in the template's order.
            image_index: Which image each face is in; needed unless there is one face in each image.

        Raises:
            ShapeError: If shapes disagree.
            TypeError: If a dtype is unwanted.
            ValueError: If pixels of a float image are out of range; with ``invalid="error"``, if landmarks are bad.
        """
        _check(images, landmarks, image_index, len(self.template.points))
        with without_autocast(landmarks):
            target = self.template.tensor(device=landmarks.device)
            fit = estimate_similarity(landmarks, target, invalid=self.invalid)
            crops = self._sample(images, invert_similarity(fit.matrices.to(_wide(landmarks))), image_index)
            crops = torch.where(fit.valid[:, None, None, None], crops, 0.0)
            if self.output == "uint8":
                crops = ((crops.detach() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return AlignedFaces(crops, *fit)

    def _sample(self, images: Tensor | list[Tensor], inverse: Tensor, image_index: Tensor | None) -> Tensor:
        if isinstance(images, Tensor):
            return self._sample_batch(images, inverse, image_index)
        index = torch.arange(len(images), device=inverse.device) if image_index is None else image_index
        order = index.argsort(stable=True)
        counts = torch.bincount(index, minlength=len(images)).tolist()
        parts = [
            self._sample_batch(image[None], chosen, torch.zeros(len(chosen), dtype=torch.int64, device=inverse.device))
            for image, chosen in zip(images, inverse[order].split(counts), strict=True)
            if len(chosen)
        ]
        if not parts:
            return inverse.new_zeros(0, 3, self.template.height, self.template.width)
        return torch.cat(parts)[order.argsort()]

    def _sample_batch(self, images: Tensor, inverse: Tensor, image_index: Tensor | None) -> Tensor:
        size = (self.template.height, self.template.width)
        whole = images.dtype == torch.uint8
        sample = sample_areas if self.antialias else sample_bilinear
        crops = sample(images, inverse, image_index, size, padding=self.padding, fill=0.0 if whole else -1.0)
        return crops / 127.5 - 1 if whole else crops


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _check(images: Tensor | list[Tensor], landmarks: Tensor, image_index: Tensor | None, points: int) -> None:
    where = "FaceAligner.forward"
    if isinstance(images, Tensor):
        check_rank(where, "images", images, ("images", "3", "height", "width"))
    check_rank(where, "landmarks", landmarks, ("faces", "points", "2"))
    check_floating(where, "landmarks", landmarks)
    faces = landmarks.shape[0]
    if image_index is None:
        if len(images) != faces:
            raise ShapeError(
                f"{where}: 'landmarks' must have one face for each of {len(images)} images, got {shape_text(landmarks)}. Pass image_index."
            )
    else:
        check_indices(where, "image_index", image_index, batch=faces, limit=len(images), limit_name="images")
    for image in [images] if isinstance(images, Tensor) else images:
        if image.is_floating_point():
            check_values(image.abs() <= 1.5, image, f"{where}: 'images' must lie in [-1, 1]")
