"""Synthesized crops back into the photographs that they were cut from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, overload

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from facemtl._core.checks import check_values
from facemtl._core.pixels import OVERSHOOT, to_model_input
from facemtl._core.precision import without_autocast
from facemtl.alignment.colour import match_colours
from facemtl.alignment.masks import face_mask
from facemtl.alignment.paste_edge import extend, ramp
from facemtl.alignment.paste_inputs import ADVICE, Placement, check_faces, check_photographs, placements
from facemtl.alignment.paste_region import Region, find_covered, find_region
from facemtl.alignment.paste_sampling import Affine, resample, samples_wanted

# Pixels drawn at once where no gradient is wanted. On a CPU the temporaries then stay in its cache, and everywhere
# they are small beside a photograph.
_BAND = {"cpu": 1 << 16}
_BAND_ELSEWHERE = 1 << 22
# Samples a side that a crop's pixel takes of the photograph where only its colours' statistics are wanted.
_MOST_SAMPLES = 4
_HALF_RANGE = 127.5

ColourMatching = Literal["none", "mean", "mean_std"]


@overload
def paste_back(
    photographs: Shaped[Tensor, "images 3 height width"],
    crops: Shaped[Tensor, "faces 3 rows columns"],
    matrices: Float[Tensor, "faces 2 3"],
    *,
    image_index: Integer[Tensor, " faces"] | None = None,
    valid: Bool[Tensor, " faces"] | None = None,
    mask: Shaped[Tensor, "masks 1 rows columns"] | None = None,
    feather: float = 0.15,
    match_colour: ColourMatching = "none",
    originals: Shaped[Tensor, "faces 3 rows columns"] | None = None,
) -> Shaped[Tensor, "images 3 height width"]: ...


@overload
def paste_back(
    photographs: Sequence[Tensor],
    crops: Shaped[Tensor, "faces 3 rows columns"],
    matrices: Float[Tensor, "faces 2 3"],
    *,
    image_index: Integer[Tensor, " faces"] | None = None,
    valid: Bool[Tensor, " faces"] | None = None,
    mask: Shaped[Tensor, "masks 1 rows columns"] | None = None,
    feather: float = 0.15,
    match_colour: ColourMatching = "none",
    originals: Shaped[Tensor, "faces 3 rows columns"] | None = None,
) -> list[Tensor]: ...


def paste_back(
    photographs: Shaped[Tensor, "images 3 height width"] | Sequence[Tensor],
    crops: Shaped[Tensor, "faces 3 rows columns"],
    matrices: Float[Tensor, "faces 2 3"],
    *,
    image_index: Integer[Tensor, " faces"] | None = None,
    valid: Bool[Tensor, " faces"] | None = None,
    mask: Shaped[Tensor, "masks 1 rows columns"] | None = None,
    feather: float = 0.15,
    match_colour: ColourMatching = "none",
    originals: Shaped[Tensor, "faces 3 rows columns"] | None = None,
) -> Shaped[Tensor, "images 3 height width"] | list[Tensor]:
    r"""Warp crops back into the photographs, under a feathered mask.

    With the crop :math:`c`, the mask :math:`m` and the photograph :math:`p`, and :math:`W` the bilinear warp to the
    photograph's pixels, anti-aliased where it shrinks the crop, the result is

    .. math:: W(m\,c) + (1 - W(m))\,p

    so that what lies under a mask of 0 never bleeds into the photograph. Given the ``originals``, the crops as they
    were before the network changed them, only the change is pasted, :math:`p + W(m\,(c - o))`: a face larger than the
    crop keeps the photograph's own sharpness, and an unchanged crop changes nothing at all.

    Only the pixels around each face are computed; the usual warp and blend of whole photographs costs the more, the
    larger the photograph is. Pixels outside the mask come back bit for bit, in any dtype. Where a face sticks out of
    the photograph, the padding that the crop was filled up with is not pasted: up to the edge, the photograph gets
    the change of the pixels beside it. Faces are pasted in order, later ones over earlier ones.

    Args:
        photographs: ``(images, 3, height, width)``, or a sequence of ``(3, height, width)`` of different sizes; uint8,
            or floating point in [-1, 1]. They are not modified.
        crops: Faces to paste, at any size; floating point in [-1, 1] (overshoot is clamped) or uint8.
        matrices: From photograph to crop, as :class:`~facemtl.alignment.warp.FaceAligner` gives them. They get no
            gradient: they decide which pixels are touched at all.
        image_index: Which photograph each face goes into; by default one face each, in order.
        valid: Faces to paste, as the aligner gives them; the others leave the photograph as it is.
        mask: What to paste of the crop, in [0, 1] or bool, one for each face or one for all (from a face parser, for
            example); by default :func:`~facemtl.alignment.masks.face_mask`.
        feather: Of the default mask, as a share of the crop's sides.
        match_colour: Statistics of the photograph's colours under the mask that the crop takes over before it is
            pasted; see :func:`~facemtl.alignment.colour.match_colours`.
        originals: The crops before they were changed, to paste only the change.

    Returns:
        New photographs, of the same kind, sizes, dtype and memory layout (a list for any sequence). The gradient
        reaches crops, mask, originals and photographs if the photographs are floating point.

    Raises:
        ShapeError: If shapes disagree.
        TypeError: If dtypes are not as said above.
        ValueError: If crops or matrices of valid faces are not finite, floats lie outside [-1, 1], a matrix cannot be
            inverted, an index is out of range, or tensors are on different devices.

    Example:
        >>> photograph = torch.zeros(1, 3, 200, 300)
        >>> matrix = torch.tensor([[[0.5, 0.0, -20.0], [0.0, 0.5, 10.0]]])  # a face twice the crop's size
        >>> result = paste_back(photograph, torch.ones(1, 3, 112, 112), matrix)
        >>> result[0, 0, 90, 150].item(), result[0, 0, 90, 20].item()
        (1.0, 0.0)
    """
    if match_colour not in ("none", "mean", "mean_std"):
        raise ValueError(f"paste_back: 'match_colour' must be 'none', 'mean' or 'mean_std', got {match_colour!r}.")
    check_photographs(photographs)
    check_faces(photographs, crops, matrices, image_index=image_index, valid=valid, mask=mask, originals=originals)
    places = placements(matrices, image_index, valid, images=len(photographs))
    masks = face_mask(*crops.shape[-2:], feather=feather, device=crops.device) if mask is None else mask
    result = photographs.clone() if isinstance(photographs, Tensor) else [photo.clone() for photo in photographs]
    with torch.set_grad_enabled(_differentiable(photographs, crops, mask, originals)), without_autocast(crops):
        for place in places:
            _paste_face(result, photographs, crops, masks, place, originals=originals, match_colour=match_colour)
    return result


def _paste_face(
    result: Tensor | list[Tensor],
    photographs: Tensor | Sequence[Tensor],
    crops: Tensor,
    masks: Tensor,
    place: Placement,
    *,
    originals: Tensor | None,
    match_colour: ColourMatching,
) -> None:
    photograph, to_photograph = photographs[place.image], place.to_crop.inverse()
    samples = samples_wanted(place.to_crop, crops)
    region = find_region(to_photograph, crops, photograph, samples)
    if min(region.size) <= 0:
        return
    dtype = _working_dtype(photograph, crops)
    alpha = masks[place.face % len(masks)].to(dtype).unsqueeze(0)
    crop = _model_range(crops[place.face], dtype)
    original = None if originals is None else _model_range(originals[place.face], dtype)
    covered = find_covered(to_photograph, crop, photograph)
    if original is None and (match_colour != "none" or covered is not None):
        original = _look(photograph, to_photograph, region, crop)
    if match_colour != "none" and original is not None:
        weights = alpha if covered is None else alpha * covered
        crop = match_colours(crop, original, weights=weights, statistics=match_colour)
    layer = _layer(crop, original, alpha, covered, only_change=originals is not None)
    if not photograph.is_floating_point():
        layer = torch.cat(((layer[:, :3] + layer[:, 3:]) * _HALF_RANGE, layer[:, 3:]), 1)
    bands = [region]
    if not torch.is_grad_enabled():  # which would keep each band, and copy the photograph for it in backward
        bands = region.bands(_BAND.get(crops.device.type, _BAND_ELSEWHERE) // samples**2)
    for band in bands:
        to_crop = place.to_crop.seen_from(band.left, band.top)
        drawn = resample(layer, to_crop, band.size, samples=samples)[0]
        target = band.of(result[place.image])
        target.copy_(_blend(target, drawn, place, band))


def _layer(
    crop: Tensor, original: Tensor | None, alpha: Tensor, covered: Tensor | None, *, only_change: bool
) -> Tensor:
    """Colours to add, times mask, and the share of the photograph to take away for them: ``(1, 4, h, w)``.

    Crop pixels that hold padding take nothing away; the photograph there gets the change of their neighbours.
    """
    if original is None or (covered is None and not only_change):
        return torch.cat((alpha * crop, alpha), 1)
    change, reach, replaced = crop - original, alpha, torch.zeros_like(alpha)
    if covered is not None:
        change, near = extend(change, covered)
        reach = alpha * near
        replaced = replaced if only_change else ramp(covered, alpha.dtype)
    return torch.cat((reach * (change + replaced * original), alpha * replaced), 1)


def _blend(target: Tensor, drawn: Tensor, place: Placement, band: Region) -> Tensor:
    """The photograph's pixels under what was drawn in their range."""
    # A copy under autograd, which may want the pixels after they have been overwritten.
    photograph = target.to(drawn.dtype, copy=torch.is_grad_enabled())
    pasted = torch.addcmul(drawn[:3] + photograph, drawn[3:], photograph, value=-1)
    if not target.is_floating_point():  # pixels that nothing was drawn on are whole numbers and stay so
        return pasted.round_().clamp_(0.0, 255.0)
    message = (
        f"paste_back: 'photographs' must be finite and lie in [-1, 1]; photograph {place.image}, counted from row "
        f"{band.top} and column {band.left}, around face {place.face}"
    )
    check_values(photograph.detach().abs() <= OVERSHOOT, photograph, message, advice=lambda _: ADVICE, at_once=True)
    return torch.where((drawn != 0).any(0), pasted.clamp(-1.0, 1.0), photograph)


def _look(photograph: Tensor, to_photograph: Affine, region: Region, crop: Tensor) -> Tensor:
    """The photograph as the crop sees it, well enough for colours: at most 4x4 samples a pixel."""
    step = max(1, math.floor(to_photograph.stride() / _MOST_SAMPLES))
    part = region.of(photograph)[None, :, ::step, ::step]
    part = part.to(crop.dtype) if part.is_floating_point() else to_model_input(part, dtype=crop.dtype)
    (xx, xy, x0), (yx, yy, y0) = to_photograph[:3], to_photograph[3:]
    to_part = Affine(*(value / step for value in (xx, xy, x0 - region.left, yx, yy, y0 - region.top)))
    samples = min(_MOST_SAMPLES, samples_wanted(to_part, part))
    height, width = crop.shape[-2:]
    return resample(part, to_part, (height, width), samples=samples, padding="border")


def _differentiable(photographs: Tensor | Sequence[Tensor], *others: Tensor | None) -> bool:
    """Whether a gradient is wanted and can be had: whole numbers have none."""
    floating = all(photograph.is_floating_point() for photograph in photographs)
    tensors = (*photographs, *others)
    wanted = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return floating and wanted


def _working_dtype(photograph: Tensor, crops: Tensor) -> torch.dtype:
    dtypes = [tensor.dtype for tensor in (photograph, crops) if tensor.is_floating_point()]
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _model_range(crop: Tensor, dtype: torch.dtype) -> Tensor:
    scaled = crop.to(dtype).clamp(-1.0, 1.0) if crop.is_floating_point() else to_model_input(crop, dtype=dtype)
    return scaled.unsqueeze(0)
