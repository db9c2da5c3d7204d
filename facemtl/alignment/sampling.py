"""Reading photographs between their pixels: bilinear, exact, from the pixels where they lie."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.precision import widest_dtype

Padding = Literal["zeros", "border"]


def sample_bilinear(
    images: Tensor,
    matrices: Tensor,
    image_index: Tensor | None,
    size: tuple[int, int],
    *,
    padding: Padding = "zeros",
    fill: float = 0.0,
) -> Tensor:
    r"""Sample a crop for each face from ``images`` at ``matrices @ (x, y, 1)``.

    Coordinates are computed in float64 (float32 on MPS), so that the weights of the four neighbours are right to the
    last digit of float32 at any place of a photograph of any size; ``torch.nn.functional.grid_sample``, which kornia's
    warps end in, takes coordinates as float32 shares of the image's side, and is 1e-5 off in a photograph of a
    thousand pixels. It would also want one image for each face, in floats; this reads four pixels for each pixel of a
    crop, whatever their dtype.

    Each neighbour counts :math:`\max(0, 1 - |d|)` by its distance along each axis, from two columns and two rows that
    are kept inside the image: a pixel outside counts nothing and leaves its share to ``fill``.

    Args:
        images: ``(images, channels, height, width)``, uint8 or floating point.
        matrices: ``(faces, 2, 3)``, crop to photograph.
        image_index: ``(faces,)`` int64; None if there is one face in each image.
        size: Height and width of the crops.
        padding: Outside the photograph is ``fill`` (``"zeros"``) or the nearest pixel (``"border"``).
        fill: A pixel value.

    Returns:
        ``(faces, channels, *size)``: float64 for float64 images, else float32.
    """
    images = at_least_two(images, padding, fill)
    index = torch.arange(matrices.shape[0], device=images.device) if image_index is None else image_index
    channels, rows, columns = images.shape[1:]
    flat, (image_step, channel_step, row_step, column_step) = flatten(images)
    x, y = places(matrices, size, widest_dtype(images))
    left, (x0, x1) = _axis(x, columns, padding, sampled_dtype(images))
    top, (y0, y1) = _axis(y, rows, padding, sampled_dtype(images))
    start = top * row_step + left * column_step + (index * image_step)[:, None, None]
    steps = [
        down * row_step + right * column_step + channel * channel_step
        for down in (0, 1)
        for right in (0, 1)
        for channel in range(channels)
    ]
    upper_left, upper_right, lower_left, lower_right = _gather(flat, start, steps, sampled_dtype(images)).chunk(4)
    x0, x1, y0, y1 = x0[None], x1[None], y0[None], y1[None]
    upper = (upper_left * x0).addcmul(upper_right, x1)
    lower = (lower_left * x0).addcmul(lower_right, x1)
    crops = (upper * y0).addcmul(lower, y1).transpose(0, 1)
    if padding == "zeros" and fill != 0.0:
        crops = crops + fill * (1 - (x0 + x1) * (y0 + y1)).transpose(0, 1)
    return crops


def sampled_dtype(images: Tensor) -> torch.dtype:
    """The dtype of crops from ``images``: half precision and uint8 are sampled in float32."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether autograd records what is done to one of ``tensors``."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def at_least_two(images: Tensor, padding: Padding, fill: float) -> Tensor:
    """Give an image of one row or one column another, as the padding has it: each pixel has a neighbour then."""
    down, right = int(images.shape[-2] == 1), int(images.shape[-1] == 1)
    if not (down or right):
        return images
    if padding == "zeros":
        return F.pad(images, (0, right, 0, down), value=fill)
    images = images.repeat_interleave(1 + down, dim=-2)
    return images.repeat_interleave(1 + right, dim=-1)


def flatten(images: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """All pixels in a row, and the steps to the next image, channel, row and column; a copy only of strided images."""
    channels, rows, columns = images.shape[1:]
    whole = channels * rows * columns
    if not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last):
        return images.permute(0, 2, 3, 1).reshape(-1), (whole, 1, columns * channels, channels)
    return images.reshape(-1), (whole, rows * columns, columns, 1)


def places(matrices: Tensor, size: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Place of each pixel of the crops in the photograph, x and y, ``(faces, height, width)`` each."""
    m = matrices.to(dtype)[:, :, :, None, None]
    row = torch.arange(size[0], device=m.device, dtype=dtype)[:, None]
    column = torch.arange(size[1], device=m.device, dtype=dtype)
    x = m[:, 0, 0] * column + (m[:, 0, 1] * row + m[:, 0, 2])
    y = m[:, 1, 0] * column + (m[:, 1, 1] * row + m[:, 1, 2])
    return x, y


def _axis(place: Tensor, length: int, padding: Padding, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The first of two neighbours along an axis, both inside the image, and the share of each."""
    if padding == "border":
        place = place.clamp(0, length - 1)
    first = place.detach().floor().clamp_(0, length - 2)
    distance = (place - first).to(dtype)
    shares = (1 - distance, distance)
    if padding == "zeros":
        shares = (1 - distance.abs()).relu(), (1 - (distance - 1).abs()).relu()
    return first.long(), shares


def _gather(flat: Tensor, start: Tensor, steps: list[int], dtype: torch.dtype) -> Tensor:
    """``(steps, *start.shape)``: the pixel at each step from each start."""
    index = start.flatten()
    if flat.requires_grad:  # one gather has one gradient of the photographs' size, not one for each step
        index = index + torch.tensor(steps, device=index.device)[:, None]
        return flat.index_select(0, index.flatten()).to(dtype).view(len(steps), *start.shape)
    found = [flat[step:].index_select(0, index) for step in steps]
    return torch.stack(found).to(dtype).view(len(steps), *start.shape)
