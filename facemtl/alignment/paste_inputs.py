"""What paste_back is given: held to its promises at the door, and laid out as faces to place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_floating, check_indices, check_rank, check_values, shape_text
from facemtl._core.pixels import OVERSHOOT
from facemtl.alignment.paste_sampling import Affine

_WHERE = "paste_back"
# A matrix that flattens the plane to less than this share of its scale is singular but for rounding.
_FLAT = 1e-9
ADVICE = "Scale pixels with facemtl.to_model_input first."


class Placement(NamedTuple):
    """A face to paste."""

    face: int
    image: int
    to_crop: Affine


def check_photographs(photographs: Tensor | Sequence[Tensor]) -> None:
    """Check kind, shapes, dtype and device of photographs, a batch or a sequence."""
    if isinstance(photographs, Tensor):
        advice = "Call photographs.unsqueeze(0)." if photographs.dim() == 3 else ""
        check_rank(_WHERE, "photographs", photographs, ("images", "3", "height", "width"), advice=advice)
        _check_rgb("photographs", photographs)
        _check_pixels("photographs", photographs)
        return
    for index, photograph in enumerate(photographs):
        name = f"photographs[{index}]"
        if not isinstance(photograph, Tensor):
            raise TypeError(f"{_WHERE}: '{name}' must be a tensor, got {type(photograph).__name__}.")
        check_rank(_WHERE, name, photograph, ("3", "height", "width"))
        _check_rgb(name, photograph)
        _check_pixels(name, photograph)
        if photograph.dtype != photographs[0].dtype:
            raise TypeError(
                f"{_WHERE}: 'photographs' must have one dtype, got {photographs[0].dtype} at index 0 and "
                f"{photograph.dtype} at index {index}."
            )


def check_faces(
    photographs: Tensor | Sequence[Tensor],
    crops: Tensor,
    matrices: Tensor,
    *,
    image_index: Tensor | None,
    valid: Tensor | None,
    mask: Tensor | None,
    originals: Tensor | None,
) -> None:
    """Check shapes, dtypes and devices of all that belongs to the faces, then values of those that are valid."""
    check_rank(_WHERE, "crops", crops, ("faces", "3", "height", "width"))
    _check_rgb("crops", crops)
    _check_pixels("crops", crops)
    faces, _, height, width = crops.shape
    if height == 0 or width == 0:
        raise ShapeError(f"{_WHERE}: 'crops' must have pixels, got {shape_text(crops)}.")
    _check_shape("matrices", matrices, (faces, 2, 3))
    check_floating(_WHERE, "matrices", matrices)
    _check_image_index(image_index, faces, len(photographs))
    if valid is not None:
        _check_shape("valid", valid, (faces,))
        if valid.dtype != torch.bool:
            raise TypeError(f"{_WHERE}: 'valid' must have dtype bool, got {valid.dtype}.")
    if originals is not None:
        _check_shape("originals", originals, tuple(crops.shape))
        _check_pixels("originals", originals)
    if mask is not None:
        _check_mask(mask, faces, height, width)
    others = [(f"photograph {index}", photograph) for index, photograph in enumerate(photographs)]
    for name, tensor in (*others, ("'mask'", mask), ("'originals'", originals)):
        if tensor is not None and tensor.device != crops.device:
            raise ValueError(f"{_WHERE}: {name} must be on the device of 'crops', {crops.device}, got {tensor.device}.")
    ignored = torch.zeros(faces, dtype=torch.bool, device=crops.device) if valid is None else ~valid.to(crops.device)
    for name, pixels in (("crops", crops), ("originals", originals)):
        if pixels is not None and pixels.is_floating_point():
            good = (pixels.detach().abs() <= OVERSHOOT) | ignored[:, None, None, None]
            message = f"{_WHERE}: '{name}' must be finite and lie in [-1, 1]"
            check_values(good, pixels, message, advice=lambda _: ADVICE, at_once=True)


def placements(matrices: Tensor, image_index: Tensor | None, valid: Tensor | None, *, images: int) -> list[Placement]:
    """Read where the valid faces go (one read of the device), and check that each place exists."""
    table = matrices.detach().cpu().double()
    kept = torch.ones(len(table), dtype=torch.bool) if valid is None else valid.cpu()
    index = torch.arange(len(table)) if image_index is None else image_index.cpu()
    check_indices(_WHERE, "image_index", index, batch=len(table), limit=images, limit_name="images")
    message = f"{_WHERE}: 'matrices' of valid faces must be finite"
    check_values(
        table.isfinite() | ~kept[:, None, None], table, message, advice=lambda _: "Pass the aligner's 'valid'."
    )
    determinants = table[:, 0, 0] * table[:, 1, 1] - table[:, 0, 1] * table[:, 1, 0]
    size = table[:, :, :2].square().sum((1, 2))
    sound = (determinants.abs() > _FLAT * size) & (determinants.abs() > torch.finfo(torch.float32).tiny)
    message = f"{_WHERE}: 'matrices' of valid faces must be invertible, with a determinant other than 0"
    check_values(sound | ~kept, determinants, message, advice=lambda _: "Pass the aligner's 'valid'.")
    rows = table.flatten(1).tolist()
    images_of = index.tolist()
    return [Placement(face, images_of[face], Affine(*rows[face])) for face in kept.nonzero().flatten().tolist()]


def _check_rgb(name: str, pixels: Tensor) -> None:
    if pixels.shape[-3] != 3:
        advice = "Move channels first, repeat gray, drop alpha."
        raise ShapeError(
            f"{_WHERE}: '{name}' must have 3 RGB channels on the third axis from the end, got {shape_text(pixels)}. "
            f"{advice}"
        )


def _check_pixels(name: str, pixels: Tensor) -> None:
    if pixels.dtype != torch.uint8:
        check_floating(_WHERE, name, pixels, advice="Or pass uint8.")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"{_WHERE}: '{name}' must have shape {shape}, as 'crops' says, got {shape_text(tensor)}.")


def _check_image_index(image_index: Tensor | None, faces: int, images: int) -> None:
    if image_index is not None:
        check_rank(_WHERE, "image_index", image_index, ("faces",))
    elif faces != images:
        raise ShapeError(
            f"{_WHERE}: 'image_index' is needed unless there is one face for each photograph, got {faces} faces and "
            f"{images} photographs. Pass the photograph's index for each face."
        )


def _check_mask(mask: Tensor, faces: int, height: int, width: int) -> None:
    if tuple(mask.shape) not in ((faces, 1, height, width), (1, 1, height, width)):
        raise ShapeError(
            f"{_WHERE}: 'mask' must have shape {(faces, 1, height, width)} or {(1, 1, height, width)}, "
            f"got {shape_text(mask)}."
        )
    if mask.dtype != torch.bool:
        check_floating(_WHERE, "mask", mask, advice="Or pass bool.")
        good = (mask.detach() >= 0) & (mask.detach() <= 1)
        check_values(good, mask, f"{_WHERE}: 'mask' must lie in [0, 1]", at_once=True)
