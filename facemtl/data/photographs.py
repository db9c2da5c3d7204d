"""A photograph file as pixels: upright RGB, whatever the file is, or a reason why not."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import UInt8
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif", ".jp2"}
)
"""Names that count as photographs when a folder is read; what the file is, its content decides."""

# Pillow opens 45 formats, EPS by running Ghostscript: only those that photographs come in are let through.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
MOST_PIXELS = 178_956_970
"""Pixels of a photograph beyond which Pillow itself refuses."""
MOST_BYTES = 256 * 2**20
"""Largest file that is read unless the caller says otherwise."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class PhotographError(ValueError):
    """A file is no photograph that can be used.

    Args:
        path: The file.
        reason: What is wrong in a few words, the same words for the same fault.
        detail: What the decoder or the system said of this very file.
    """

    def __init__(self, path: str | Path, reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)
        self.path, self.reason, self.detail = str(path), reason, detail

    def __str__(self) -> str:
        return f"read_photograph: {self.path!r}: {self.reason}{f' ({self.detail})' if self.detail else ''}."


def read_photograph(
    path: str | Path, *, max_pixels: int = 100_000_000, max_bytes: int = MOST_BYTES, strict: bool = True
) -> UInt8[Tensor, "3 height width"]:
    """Read a photograph as upright RGB.

    The camera's orientation (EXIF) is applied. Gray, palette, CMYK and 16-bit files become 8-bit RGB; transparent
    pixels lie on white, as a browser shows them; the first frame stands for an animation. Colour profiles are not
    applied. What the file is, its content says, not its name. Only regular files are opened, and their bytes and
    pixels are counted before anything is decoded.

    A flipped bit in a JPEG shifts or recolours the rest of the picture, and Pillow and OpenCV return that picture
    without a word. With ``strict`` and simplejpeg installed, a JPEG about which libjpeg complains is an error. That
    catches one single flip in six where Pillow catches one in seventy: a file that a flip made into a well-formed JPEG
    of another picture cannot be told without a checksum.

    Args:
        path: The file.
        max_pixels: Most pixels to decode; at most 178,956,970, where Pillow stops.
        max_bytes: Largest file to read.
        strict: Refuse JPEGs that decode only with complaints. A few cameras write harmless extra bytes that libjpeg
            complains about; ``False`` accepts those, and damaged ones with them.

    Returns:
        ``(3, height, width)``, uint8.

    Raises:
        PhotographError: If the file is not a photograph that can be used; ``reason`` says why.
        ValueError: If a limit is not positive, or ``max_pixels`` is beyond Pillow's.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (40, 30), 128).save(path)
        >>> read_photograph(path).shape
        torch.Size([3, 30, 40])
    """
    if not 1 <= max_pixels <= MOST_PIXELS:
        raise ValueError(f"read_photograph: 'max_pixels' must lie in [1, {MOST_PIXELS}], got {max_pixels}.")
    if max_bytes < 1:
        raise ValueError(f"read_photograph: 'max_bytes' must be at least 1, got {max_bytes}.")
    return _decode_or_refuse(read_file(path, max_bytes), path, max_pixels, strict)


def decode_photograph(
    data: bytes, *, path: str | Path, max_pixels: int = 100_000_000, strict: bool = True
) -> UInt8[Tensor, "3 height width"]:
    """Decode the bytes of a photograph file as :func:`read_photograph` does, wherever they come from.

    Args:
        data: The whole file.
        path: What messages call it: a file's name, or that of a record.
        max_pixels: Most pixels to decode; at most 178,956,970, where Pillow stops.
        strict: Refuse JPEGs that decode only with complaints.

    Returns:
        ``(3, height, width)``, uint8.

    Raises:
        PhotographError: If the bytes are not a photograph that can be used; ``reason`` says why.
        ValueError: If ``max_pixels`` is not positive, or beyond Pillow's.

    Example:
        >>> decode_photograph(b"", path="record 7")
        Traceback (most recent call last):
        facemtl.data.photographs.PhotographError: read_photograph: 'record 7': empty file.
    """
    if not 1 <= max_pixels <= MOST_PIXELS:
        raise ValueError(f"decode_photograph: 'max_pixels' must lie in [1, {MOST_PIXELS}], got {max_pixels}.")
    if not data:
        raise PhotographError(path, "empty file")
    return _decode_or_refuse(data, path, max_pixels, strict)


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """Read a regular file and nothing else: a FIFO would wait for ever, a device has side effects.

    Raises:
        PhotographError: If it is not a regular file, empty, larger than ``max_bytes``, or cannot be read.
    """
    try:
        _check_regular(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:  # no file object: it would cost more than all the rest
            status = os.fstat(descriptor)
            _check_regular(path, status)  # it may have been replaced since
            if status.st_size > max_bytes:
                raise PhotographError(path, "too many bytes", f"{status.st_size:,}, the limit is {max_bytes:,}")
            data = os.read(descriptor, status.st_size + 1)
            # The size of the file is all of it. The system may give less (2 GiB at most), and the file may have grown.
            while status.st_size != len(data) <= max_bytes and (rest := os.read(descriptor, 2**20)):
                data += rest
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PhotographError(path, "cannot be read", error.strerror or str(error)) from error
    except ValueError as error:
        if isinstance(error, PhotographError):
            raise
        raise PhotographError(path, "cannot be read", _first_line(error)) from error  # a NUL in the name
    if not data:
        raise PhotographError(path, "empty file")
    return data


def _decode_or_refuse(data: bytes, path: str | Path, max_pixels: int, strict: bool) -> Tensor:
    try:
        return _decode(path, data, max_pixels, strict)
    except PhotographError:
        raise
    except MemoryError as error:
        raise PhotographError(path, "does not fit in memory") from error
    except Exception as error:  # decoders of hostile bytes raise anything: SyntaxError, struct.error, ZeroDivisionError
        raise PhotographError(path, "damaged file", _first_line(error)) from error


def _check_regular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "special")
        raise PhotographError(path, "not a regular file", kind)


def _decode(path: str | Path, data: bytes, max_pixels: int, strict: bool) -> Tensor:
    """Decode to ``(3, height, width)`` uint8, upright."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of pixel counts and odd metadata; both are judged here
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        except UnidentifiedImageError as error:
            raise PhotographError(path, "not an image", _looks_like(data)) from error
        except Image.DecompressionBombError as error:
            raise PhotographError(path, "too many pixels", _first_line(error)) from error
        with image:
            width, height = image.size
            if width * height > max_pixels:
                raise PhotographError(path, "too many pixels", f"{width} x {height}, the limit is {max_pixels:,}")
            pixels = _jpeg_pixels(data, image.mode) if strict and image.format in ("JPEG", "MPO") else None
            if pixels is None:
                pixels = _rgb(path, image)
            orientation = _orientation(image)  # after decoding: Pillow turns TIFF upright itself, and then says 1
    return _upright(torch.from_numpy(pixels).permute(2, 0, 1), orientation)


def _jpeg_pixels(data: bytes, mode: str) -> np.ndarray[Any, Any] | None:
    """Decode by simplejpeg, which raises where libjpeg complains; None where it is missing or has no RGB to give."""
    try:
        import simplejpeg
    except ImportError:
        return None
    pixels: np.ndarray[Any, Any] = simplejpeg.decode_jpeg(data, colorspace="CMYK" if mode == "CMYK" else "RGB")
    return pixels if pixels.shape[-1] == 3 else None


def _rgb(path: str | Path, image: Image) -> np.ndarray[Any, Any]:
    import numpy as np
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        gray = _eight_bits(path, np.asarray(image), image.mode)
        return np.repeat(gray[..., None], 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return np.array(image.convert("RGB"))


def _eight_bits(path: str | Path, gray: np.ndarray[Any, Any], mode: str) -> np.ndarray[Any, Any]:
    """Gray of 16 bits, or floats in [0, 1], as 8 bits; other ranges are not known and not guessed."""
    import numpy as np

    largest = 1.0 if mode == "F" else 65535.0
    low, high = float(gray.min()), float(gray.max())
    if not (low >= 0 and high <= largest):
        raise PhotographError(path, "unknown range of pixels", f"{low:g} to {high:g}, wanted 0 to {largest:g}")
    return np.rint(gray.astype(np.float64) * (255.0 / largest)).astype(np.uint8)


def _orientation(image: Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where the metadata is missing or broken, which harms no pixel."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # hostile metadata raises anything
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: Tensor, orientation: int) -> Tensor:
    """Undo EXIF's orientation: 5 to 8 exchange rows and columns, then each value flips some axes."""
    if orientation >= 5:
        pixels = pixels.mT
    flipped = ([1] if orientation in (3, 4, 7, 8) else []) + ([2] if orientation in (2, 3, 6, 7) else [])
    return pixels.flip(flipped).contiguous()


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return "it is HTML or XML"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim", b"ftyphevc"):
        return "HEIC is not read here: convert it to JPEG"
    if not data.strip(b"\0"):
        return "it is all zeros"
    return ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return text[:200] or type(error).__name__
