"""A picture of faces at all ages: rows are people, columns the input and the target groups."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_floating, shape_text
from facemtl._core.pixels import to_uint8
from facemtl._core.shapes import Images
from facemtl._core.whole_files import stage
from facemtl.networks.mtlface import MTLFace

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

_INK, _PAPER = "#1f2328", "#ffffff"
_DASHES = str.maketrans("–−", "--")  # Pillow's own font has no others


def aging_grid(model: MTLFace, images: Images) -> Tensor:
    """Show each face at all ages, beside the face itself.

    Args:
        model: With a generator. Runs in eval mode and without gradients, and keeps its mode.
        images: ``(people, 3, height, width)`` RGB in [-1, 1], on any device.

    Returns:
        ``(people, 1 + groups, 3, height, width)`` in [-1, 1]: the input, then one face for each age group.

    Raises:
        ValueError: If the model has no generator, or the images are not what is said above.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> aging_grid(model, torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 8, 3, 112, 112])
    """
    parameter = next(model.parameters(), None)
    inputs = images if parameter is None else images.to(parameter.device)
    aged = model.age_to(inputs)
    return torch.cat([inputs.clamp(-1.0, 1.0).unsqueeze(1), aged], dim=1)


def write_aging_grid(
    path: str | Path,
    faces: Tensor,
    *,
    column_labels: Sequence[str],
    row_labels: Sequence[str] = (),
    scale: int = 1,
) -> None:
    r"""Write faces of people at several ages as one PNG with labels; it appears whole or not at all.

    The first column stands apart from the others: it is the input.

    Args:
        path: File to write, ending in ``.png``; its folder is made.
        faces: ``(people, columns, 3, height, width)`` in [-1, 1], as :func:`aging_grid` gives them. A pixel that is not
            a number is shown in magenta: a model that diverged shows itself.
        column_labels: One for each column: ``("input", *model.age_groups.labels)``.
        row_labels: One for each person, or none; ``"\n"`` begins a new line.
        scale: Size of a pixel of a face, 1 to 8.

    Raises:
        ValueError: If ``path``, the number of labels or ``scale`` is not what is said above, or there is no face.
        ImportError: If Pillow is missing.
        OSError: If the disk is full, say.

    Example:
        >>> import pathlib, tempfile, torch
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "grid.png"
        >>> write_aging_grid(path, torch.zeros(2, 3, 3, 64, 64), column_labels=("input", "20−", "21+"))
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    path = Path(path)
    _check(path, faces, column_labels, row_labels, scale)
    columns, rows = ([label.translate(_DASHES) for label in labels] for labels in (column_labels, row_labels))
    picture = _draw(faces, columns, rows, scale)
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(stage(data.getvalue(), staging=path.parent), path)


def _check(path: Path, faces: Tensor, column_labels: Sequence[str], row_labels: Sequence[str], scale: int) -> None:
    where = "write_aging_grid"
    if path.suffix.lower() != ".png":
        raise ValueError(f"{where}: 'path' must end in '.png', got {str(path)!r}.")
    if faces.dim() != 5 or faces.shape[2] != 3 or 0 in faces.shape:
        raise ShapeError(
            f"{where}: 'faces' must have shape (people, columns, 3, height, width), none of them 0, got "
            f"{shape_text(faces)}."
        )
    check_floating(where, "faces", faces)
    if len(column_labels) != faces.shape[1]:
        raise ValueError(
            f"{where}: 'column_labels' must be {faces.shape[1]} labels, one for each column, got {len(column_labels)}."
        )
    if len(row_labels) not in (0, faces.shape[0]):
        raise ValueError(
            f"{where}: 'row_labels' must be {faces.shape[0]} labels, one for each person, or none, got "
            f"{len(row_labels)}."
        )
    if not 1 <= scale <= 8:
        raise ValueError(f"{where}: 'scale' must lie in [1, 8], got {scale}.")


def _draw(faces: Tensor, column_labels: Sequence[str], row_labels: Sequence[str], scale: int) -> Image:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError('write_aging_grid needs Pillow: pip install "facemtl[train]"') from error

    people, columns, _, height, width = (int(size) for size in faces.shape)
    height, width = height * scale, width * scale
    gap = max(2, width // 28)
    font = _fitting_font(column_labels, width)
    line = math.ceil(sum(font.getbbox("Ag|")[3:]) * 1.25)
    left = gap + (
        math.ceil(max(font.getlength(part) for label in row_labels for part in label.split("\n"))) + 3 * gap
        if row_labels
        else gap
    )
    top = line + 2 * gap
    apart = 2 * gap if columns > 1 else 0

    size = (left + columns * (width + gap) + apart + gap, top + people * (height + gap) + gap)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    lefts = [left + column * (width + gap) + (apart if column else 0) for column in range(columns)]
    for label, x in zip(column_labels, lefts, strict=True):
        draw.text((x + width / 2, top - gap), label, fill=_INK, font=font, anchor="md")
    for row in range(people):
        y = top + row * (height + gap)
        if row_labels:
            draw.multiline_text(
                (left - 2 * gap, y + height / 2), row_labels[row], fill=_INK, font=font, anchor="rm", align="right"
            )
        for column, x in enumerate(lefts):
            picture.paste(_picture(faces[row, column], (width, height)), (x, y))
    return picture


def _picture(face: Tensor, size: tuple[int, int]) -> Image:
    from PIL import Image

    face = face.detach().float().cpu()
    broken = face.isnan().any(dim=0)
    pixels = to_uint8(face.nan_to_num())
    pixels[:, broken] = torch.tensor([255, 0, 255], dtype=torch.uint8)[:, None]
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def _fitting_font(labels: Sequence[str], width: int) -> FreeTypeFont | ImageFont:
    """The largest font of a readable size in which each label fits over its column, or the smallest readable one."""
    from PIL import ImageFont

    for size in range(min(22, max(12, width // 6)), 9, -1):
        font = ImageFont.load_default(size)
        if max(font.getlength(label) for label in labels) <= width:
            return font
    return ImageFont.load_default(10)
