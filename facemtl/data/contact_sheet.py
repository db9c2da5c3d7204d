"""Contact sheets: each photograph with its landmarks beside its crop, for people who would rather look."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemtl._core.whole_files import write_if_changed
from facemtl.alignment.templates import LANDMARKS
from facemtl.data.align_journal import FOLDER
from facemtl.data.align_manifest import BOX_COLUMNS
from facemtl.data.photographs import PhotographError, read_photograph

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

_COLUMNS, _ROWS = 4, 5
_SIDE, _GAP, _TEXT = 192, 12, 18
_WIDTH = 2 * _SIDE + 2 * _GAP
_HEIGHT = _SIDE + _TEXT + _GAP
_COLOURS = {"left_eye": "red", "right_eye": "deepskyblue", "nose": "yellow", "left_mouth": "orange"}
_LEGEND = "dots: the eye on the viewer's left red, on the right blue; box: the detector's"

_Row = dict[str, str]


def draw_contact_sheets(
    root: str | Path,
    destination: str | Path,
    *,
    faces: int = 60,
    order: Literal["sample", "first"] = "sample",
    max_pixels: int = 100_000_000,
) -> list[Path]:
    """Draw ``contact_sheet_1.png`` and so on into a folder of aligned crops, 20 faces a sheet.

    Args:
        root: Folder of the photographs, which the manifest's names are relative to.
        destination: Folder of the crops with its ``manifest.csv``, as :func:`~facemtl.data.align_folder.align_folder`
            leaves it.
        faces: How many crops to show.
        order: ``"sample"`` draws them from the whole manifest, the same each time; ``"first"`` takes the first.
        max_pixels: Photographs with more pixels are not drawn.

    Returns:
        The sheets' paths; none if there is no crop.

    Raises:
        ValueError: If ``faces`` is not positive or there is no manifest.
    """
    root, destination = Path(root), Path(destination)
    if faces < 1:
        raise ValueError(f"draw_contact_sheets: 'faces' must be at least 1, got {faces}.")
    rows = _choose(_read_manifest(destination), faces, order)
    pages = [rows[start : start + _COLUMNS * _ROWS] for start in range(0, len(rows), _COLUMNS * _ROWS)]
    paths = [destination / f"contact_sheet_{number}.png" for number in range(1, len(pages) + 1)]
    for number, (page, path) in enumerate(zip(pages, paths, strict=True), start=1):
        title = f"{destination.resolve().name}: sheet {number} of {len(pages)}; {_LEGEND}"
        data = io.BytesIO()
        _draw_page(page, title, root, destination, max_pixels).save(data, "PNG")
        write_if_changed(path, data.getvalue(), staging=destination / FOLDER)
    number = len(pages) + 1
    while (stale := destination / f"contact_sheet_{number}.png").exists():
        stale.unlink()
        number += 1
    return paths


def _read_manifest(destination: Path) -> list[_Row]:
    path = destination / "manifest.csv"
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ValueError(f"draw_contact_sheets: {str(path)!r} cannot be read: {error.strerror}.") from error
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _choose(rows: list[_Row], faces: int, order: Literal["sample", "first"]) -> list[_Row]:
    if order == "first" or len(rows) <= faces:
        return rows[:faces]
    chosen = sorted(random.Random(0).sample(range(len(rows)), faces))
    return [rows[index] for index in chosen]


def _draw_page(page: Sequence[_Row], title: str, root: Path, destination: Path, max_pixels: int) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    lines = -(-len(page) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _WIDTH + _GAP, lines * _HEIGHT + _TEXT + 2 * _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP / 2), _printable(title), fill="black", font=font)
    for index, row in enumerate(page):
        left = _GAP + index % _COLUMNS * _WIDTH
        top = _GAP + _TEXT + index // _COLUMNS * _HEIGHT
        sheet.paste(_photograph(row, root, max_pixels), (left, top))
        sheet.paste(_crop(row, destination), (left + _SIDE + _GAP // 2, top))
        draw.text((left, top + _SIDE + 2), _fitting(row["source"], font, 2 * _SIDE), fill="black", font=font)
    return sheet


def _photograph(row: _Row, root: Path, max_pixels: int) -> Image:
    """The photograph in a square, its box and landmarks drawn after it was reduced, so that they stay visible."""
    from PIL import Image, ImageDraw

    cell = Image.new("RGB", (_SIDE, _SIDE), "gainsboro")
    draw = ImageDraw.Draw(cell)
    try:
        pixels = read_photograph(root / row["source"], max_pixels=max_pixels, strict=False)
    except PhotographError as error:
        draw.text((6, _SIDE / 2 - 8), error.reason, fill="black")
        return cell
    photograph = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    scale = _SIDE / max(photograph.size)
    size = (max(1, round(photograph.width * scale)), max(1, round(photograph.height * scale)))
    photograph = photograph.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    shift = ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2)
    cell.paste(photograph, shift)

    def place(x: str, y: str) -> tuple[float, float]:
        return (float(x) + 0.5) * scale - 0.5 + shift[0], (float(y) + 0.5) * scale - 0.5 + shift[1]

    box = [row[name] for name in BOX_COLUMNS]
    if all(box):
        draw.rectangle((*place(box[0], box[1]), *place(box[2], box[3])), outline="lime", width=2)
    for name in LANDMARKS:
        x, y = place(row[f"{name}_x"], row[f"{name}_y"])
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLOURS.get(name, "limegreen"), outline="black")
    return cell


def _crop(row: _Row, destination: Path) -> Image:
    from PIL import Image

    cell = Image.new("RGB", (_SIDE, _SIDE), "gainsboro")
    try:
        pixels = read_photograph(destination / row["crop"], strict=False)
    except PhotographError:
        return cell
    crop = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    scale = _SIDE / max(crop.size)
    crop = crop.resize((max(1, round(crop.width * scale)), max(1, round(crop.height * scale))))
    cell.paste(crop, ((_SIDE - crop.width) // 2, (_SIDE - crop.height) // 2))
    return cell


def _printable(text: str) -> str:
    """Control characters and bytes that are no text would break the line or the drawing."""
    text = os.fsencode(text).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)


def _fitting(name: str, font: FreeTypeFont | ImageFont, width: int) -> str:
    """The end of a name says most: cut its beginning."""
    name = _printable(name)
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(f"...{name}") > width:
        name = name[1:]
    return f"...{name}"
