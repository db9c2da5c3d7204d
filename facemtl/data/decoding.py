"""The bytes of an image file into a row of a batch: straight into it where the file is an ordinary JPEG."""

from __future__ import annotations

import struct
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from facemtl.data.photographs import PhotographError, decode_photograph
from facemtl.data.resizing import resized

_STARTS_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_START_OF_SCAN, _EXIF = 0xDA, 0xE1
_START_OF_IMAGE = b"\xff\xd8\xff"


class FrameHeader(NamedTuple):
    """What the header of a JPEG says of its picture."""

    height: int
    width: int
    channels: int


def plain_jpeg(data: bytes | memoryview) -> FrameHeader | None:
    """Header of a JPEG whose pixels are upright RGB or gray as they stand; None of all other data.

    Walks from segment to segment up to the scan. A segment of metadata (EXIF and XMP share a marker) may turn the
    picture, four channels are CMYK, and what is irregular in any way is left to slower readers too.
    """
    if data[:3] != _START_OF_IMAGE:
        return None
    place, frame, size = 2, None, len(data)
    while place + 4 <= size and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker in _STARTS_OF_FRAME and frame is None and length >= 8 and place + 10 <= size:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, place + 4)
            frame = FrameHeader(height, width, channels)
            if bits != 8 or channels not in (1, 3) or not height or not width:
                return None
        elif marker == _START_OF_SCAN:
            return frame
        elif marker == _EXIF or not (marker == 0xC4 or 0xDB <= marker <= 0xDD or 0xE0 <= marker <= 0xFE):
            return None
        place += 2 + max(length, 2)
    return None


class FaceDecoder:
    """Decodes image files of one size into rows of a batch.

    An ordinary JPEG goes through simplejpeg, if it is installed, straight into the row. All other files, and those that
    simplejpeg refuses, go through :func:`facemtl.data.photographs.decode_photograph`, which has the last word: what one
    way accepts the other accepts too, with the same pixels.

    Args:
        size: Height and width of a row.
        resize: Scale images of other sizes to it, instead of refusing them.
        max_pixels: Most pixels to decode.
    """

    def __init__(self, size: tuple[int, int], *, resize: bool, max_pixels: int) -> None:
        self._size, self._resize, self._max_pixels = size, resize, max_pixels

    def decode(self, data: bytes | memoryview, row: npt.NDArray[np.uint8], *, name: str) -> None:
        """Fill ``row``, ``(height, width, 3)``, contiguous.

        Raises:
            PhotographError: If the data is no image that can be used, or of another size and is not to be resized.
        """
        simplejpeg, frame = _simplejpeg(), plain_jpeg(data)
        if simplejpeg is not None and frame is not None and frame[:2] == self._size:
            try:
                simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=row)
                return
            except ValueError:  # refused: the careful way finds out why
                pass
        image = decode_photograph(bytes(data), path=name, max_pixels=self._max_pixels)
        height, width = image.shape[1:]
        if (height, width) != self._size:
            if not self._resize:
                raise PhotographError(
                    name, "another size", f"{height} x {width} instead of {self._size[0]} x {self._size[1]}"
                )
            image = resized(image, self._size)
        torch.from_numpy(row).copy_(image.permute(1, 2, 0))


@cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    module: ModuleType = simplejpeg
    return module
