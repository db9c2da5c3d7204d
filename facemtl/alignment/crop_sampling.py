"""Crops from photographs and matrices, by whichever way suits: OpenCV, regions on a CPU, or all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from facemtl._core.pixels import to_uint8
from facemtl._core.precision import widest_dtype
from facemtl.alignment.aligner_input import image_count
from facemtl.alignment.antialias import sample_areas
from facemtl.alignment.face_regions import RegionPlan, plan_regions
from facemtl.alignment.opencv4_warp import warp_like_opencv4
from facemtl.alignment.opencv_warp import opencv_major, warp_regions
from facemtl.alignment.region_sampling import sample_regions
from facemtl.alignment.sampling import Padding, needs_gradient, sample_bilinear
from facemtl.alignment.similarity import invert_similarity

Backend = Literal["auto", "torch", "opencv"]
Images = Tensor | Sequence[Tensor]


class Sampling(NamedTuple):
    """How crops are sampled, as :class:`~facemtl.alignment.warp.FaceAligner` explains."""

    size: tuple[int, int]
    antialias: bool
    padding: Padding
    cv2_compat: bool
    output: Literal["model", "uint8"]
    backend: Backend


def sample_crops(images: Images, matrices: Tensor, image_index: Tensor | None, how: Sampling) -> Tensor:
    """Sample ``(faces, 3, *size)``: uint8, or floats in [-1, 1].

    Args:
        images: A batch or a list, checked.
        matrices: ``(faces, 2, 3)`` photograph to crop.
        image_index: Which image each face is in; None if there is one face in each.
        how: The aligner's options.
    """
    if image_count(images) == 0:
        dtype = torch.uint8 if how.output == "uint8" else torch.float32
        return torch.zeros(0, 3, *how.size, dtype=dtype, device=matrices.device)
    whole = images[0].dtype == torch.uint8
    if how.cv2_compat and not whole:
        raise TypeError(
            f"FaceAligner.forward: 'images' must be uint8 with cv2_compat=True, got {images[0].dtype}. "
            "Call facemtl.to_uint8(images), or leave cv2_compat off."
        )
    inverse = invert_similarity(matrices.to(widest_dtype(matrices)))
    eager = matrices.device.type == "cpu" and not torch.compiler.is_compiling() and matrices.shape[0] > 0
    if _by_opencv(images, matrices, how, eager):
        parts, plan = _plan(images, inverse, image_index, how)
        return warp_regions(parts, plan, how.size, padding=how.padding, antialias=how.antialias, output=how.output)
    if how.cv2_compat:
        crops = _image_by_image(images, matrices, image_index, how, _like_opencv4)
    elif eager:
        parts, plan = _plan(images, inverse, image_index, how)
        crops = sample_regions(parts, plan, how.size, padding=how.padding, fill=_black(images[0]))
    else:
        crops = _image_by_image(images, inverse, image_index, how, _at_once)
    return _finish(crops, whole, how.output)


def _by_opencv(images: Images, matrices: Tensor, how: Sampling, eager: bool) -> bool:
    """Whether OpenCV can do it and gives what is wanted: version 5 is exact, 4 is what ``cv2_compat`` asks for."""
    if how.backend == "torch":
        return False
    fits = eager and images[0].dtype == torch.uint8 and not needs_gradient(matrices)
    right = opencv_major() == 4 if how.cv2_compat else opencv_major() >= 5
    if how.backend == "opencv" and not fits and matrices.shape[0]:
        raise ValueError(
            "FaceAligner.forward: backend 'opencv' needs uint8 images on a CPU, landmarks without gradient and eager "
            f"mode, got {images[0].dtype} on {matrices.device}. Pass backend='auto'."
        )
    if how.backend == "opencv" and not right:
        wanted = "4" if how.cv2_compat else "5"
        raise ImportError(
            f"FaceAligner needs OpenCV {wanted} for backend 'opencv': "
            f"pip install \"opencv-python-headless=={wanted}.*\", or pass backend='auto'."
        )
    return fits and right


def _plan(
    images: Images, inverse: Tensor, image_index: Tensor | None, how: Sampling
) -> tuple[Sequence[Tensor], RegionPlan]:
    parts = images.unbind() if isinstance(images, Tensor) else images  # a gradient of one image's size for each face
    index = torch.arange(len(parts)) if image_index is None else image_index
    sides = torch.tensor([image.shape[1:] for image in parts])[index]
    return parts, plan_regions(inverse, index, sides, how.size, antialias=how.antialias)


def _at_once(images: Tensor, inverse: Tensor, image_index: Tensor | None, how: Sampling) -> Tensor:
    sample = sample_areas if how.antialias else sample_bilinear
    return sample(images, inverse, image_index, how.size, padding=how.padding, fill=_black(images))


def _like_opencv4(images: Tensor, matrices: Tensor, image_index: Tensor | None, how: Sampling) -> Tensor:
    return warp_like_opencv4(images, matrices, image_index, how.size, padding=how.padding)


def _image_by_image(
    images: Images,
    matrices: Tensor,
    image_index: Tensor | None,
    how: Sampling,
    sample: Callable[[Tensor, Tensor, Tensor | None, Sampling], Tensor],
) -> Tensor:
    """Call ``sample`` once for a batch, or for each image of a list that has faces, which reads the device."""
    if isinstance(images, Tensor):
        return sample(images, matrices, image_index, how)
    index = torch.arange(len(images), device=matrices.device) if image_index is None else image_index
    order = index.argsort(stable=True)
    counts = torch.bincount(index, minlength=len(images)).tolist()
    if not len(index):
        return sample(images[0][None], matrices, index, how)
    crops = [
        sample(image[None], chosen, torch.zeros_like(index[: len(chosen)]), how)
        for image, chosen in zip(images, matrices[order].split(counts), strict=True)
        if len(chosen)
    ]
    return torch.cat(crops)[order.argsort()]


def _black(image: Tensor) -> float:
    return 0.0 if image.dtype == torch.uint8 else -1.0


def _finish(crops: Tensor, whole: bool, output: Literal["model", "uint8"]) -> Tensor:
    """Bring what was sampled, in 0 to 255 if the images were ``whole`` numbers, to the range wanted."""
    if output == "uint8":
        if crops.dtype == torch.uint8:
            return crops
        crops = crops.detach()
        return crops.round_().clamp_(0, 255).to(torch.uint8) if whole else to_uint8(crops)
    if crops.dtype == torch.uint8:
        return torch.mul(crops, 2 / 255).sub_(1)
    return crops.mul_(2 / 255).sub_(1) if whole else crops
