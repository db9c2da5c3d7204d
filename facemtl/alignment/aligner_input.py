"""What FaceAligner is given: photographs, landmarks, and which photograph each face is in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_floating, check_indices, check_rank, shape_text
from facemtl.alignment.detection_input import check_photographs, check_range

_WHERE = "FaceAligner.forward"


def check_aligner_input(
    images: Tensor | Sequence[Tensor], landmarks: Tensor, image_index: Tensor | None, *, points: int
) -> None:
    """Check shapes, dtypes, devices and ranges; a batch is checked as a whole and without waiting for a GPU."""
    if isinstance(images, Tensor):
        _check_batch(images)
    else:
        _check_list(images)
    _check_landmarks(landmarks, points)
    faces = landmarks.shape[0]
    if image_index is not None:
        check_indices(_WHERE, "image_index", image_index, batch=faces, limit=image_count(images), limit_name="images")
        _check_device("image_index", image_index, landmarks)
    elif image_count(images) != faces:
        raise ShapeError(
            f"{_WHERE}: 'landmarks' must have one face for each of the {image_count(images)} images, got shape "
            f"{shape_text(landmarks)}. Say with image_index which image each face is in."
        )
    if image_count(images):
        _check_device("landmarks", landmarks, images[0])


def image_count(images: Tensor | Sequence[Tensor]) -> int:
    """How many images there are; ``len`` of a tensor would fix the number in what is exported."""
    return images.shape[0] if isinstance(images, Tensor) else len(images)


def _check_batch(images: Tensor) -> None:
    advice = "Add an axis with images.unsqueeze(0)." if images.dim() == 3 else ""
    check_rank(_WHERE, "images", images, ("images", "3", "height", "width"), advice=advice)
    if images.shape[1] != 3 or 0 in images.shape[1:]:
        advice = ""
        if images.shape[1] == 1:
            advice = " Repeat the gray channel with images.expand(-1, 3, -1, -1)."
        elif images.shape[1] == 4:
            advice = " Drop alpha with images[:, :3]."
        elif images.shape[3] in (3, 4):
            advice = " Move channels first with images.movedim(-1, -3)."
        raise ShapeError(
            f"{_WHERE}: 'images' must have shape (images, 3, height, width), got {shape_text(images)}.{advice}"
        )
    if images.dtype == torch.uint8:
        return
    check_floating(_WHERE, "images", images, advice="Pass uint8, or scale pixels with facemtl.to_model_input(images).")
    check_range(_WHERE, "images", images, at_once=False)


def _check_list(images: Sequence[Tensor]) -> None:
    for index, image in enumerate(check_photographs(_WHERE, images)):
        if image.dtype != images[0].dtype:
            raise TypeError(
                f"{_WHERE}: 'images' must have one dtype, got {images[0].dtype} at index 0 and {image.dtype} at index "
                f"{index}."
            )
        _check_device(f"images[{index}]", image, images[0])


def _check_landmarks(landmarks: Tensor, points: int) -> None:
    advice = ""
    if landmarks.dim() == 2 and landmarks.shape[1] == 2 * points:
        advice = f"Call landmarks.unflatten(1, ({points}, 2))."
    elif landmarks.dim() == 2 and landmarks.shape == (points, 2):
        advice = "Add an axis with landmarks.unsqueeze(0)."
    check_rank(_WHERE, "landmarks", landmarks, ("faces", str(points), "2"), advice=advice)
    check_floating(_WHERE, "landmarks", landmarks, advice="Call landmarks.float().")
    if landmarks.shape[1:] != (points, 2):
        raise ShapeError(
            f"{_WHERE}: 'landmarks' must have shape (faces, {points}, 2), as the template has {points} points, got "
            f"{shape_text(landmarks)}."
        )


def _check_device(name: str, tensor: Tensor, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"{_WHERE}: '{name}' must be on {other.device}, where the images are, got {tensor.device}. "
            f"Call {name}.to({str(other.device)!r})."
        )
