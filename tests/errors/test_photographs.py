from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemtl.data.photographs import PhotographError, read_photograph
from tests import pictures


def reason(path: Path, **options: int | bool) -> tuple[str, str]:
    with pytest.raises(PhotographError) as caught:
        read_photograph(path, **options)
    assert caught.value.path == str(path)
    return caught.value.reason, caught.value.detail


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", ("empty file", "")),
        (b"<!DOCTYPE html><html>404 Not Found</html>", ("not an image", "it is HTML or XML")),
        (b"\0" * 5000, ("not an image", "it is all zeros")),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ("not an image", "HEIC is not read here: convert it to JPEG")),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ("not an image", "")),  # Pillow would start Ghostscript
        (b"hello", ("not an image", "")),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes, wanted: tuple[str, str]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert reason(path) == wanted


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(12_000, 10_000))  # below Pillow's own limit, above its warning
    assert reason(path) == ("too many pixels", "12000 x 10000, the limit is 100,000,000")
    path.write_bytes(png_of(60_000, 60_000))
    assert reason(path)[0] == "too many pixels"
    pictures.save(path)
    assert reason(path, max_pixels=100) == ("too many pixels", "90 x 110, the limit is 100")
    size = path.stat().st_size
    assert reason(path, max_bytes=size - 1) == ("too many bytes", f"{size:,}, the limit is {size - 1:,}")
    assert read_photograph(path, max_bytes=size, max_pixels=9_900).shape == (3, 110, 90)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")  # opening it to read would wait for ever
    assert reason(tmp_path / "fifo.jpg") == ("not a regular file", "a FIFO")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert reason(tmp_path / "s") == ("not a regular file", "a socket")
    assert reason(Path("/dev/zero")) == ("not a regular file", "a device")
    assert reason(tmp_path) == ("not a regular file", "a folder")
    (tmp_path / "link.jpg").symlink_to("/dev/zero")
    assert reason(tmp_path / "link.jpg") == ("not a regular file", "a device")


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.jpg") == ("cannot be read", "No such file or directory")
    assert reason(Path(f"{tmp_path}/nul\0.jpg"))[0] == "cannot be read"
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert reason(tmp_path / "loop.jpg")[0] == "cannot be read"
    if os.geteuid() != 0:
        path = pictures.save(tmp_path / "secret.png")
        path.chmod(0)
        assert reason(path) == ("cannot be read", "Permission denied")


@pytest.mark.parametrize("suffix", pictures.SUFFIXES)
def test_truncated_files_are_damaged(tmp_path: Path, suffix: str) -> None:
    path = pictures.save(tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path)[0] in ("damaged file", "not an image")


def test_complaints_of_libjpeg_count_unless_told_otherwise(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    data = pictures.save(tmp_path / "a.jpg").read_bytes()
    path = tmp_path / "extra.jpg"
    path.write_bytes(data[:-2] + b"\x01" * 7 + data[-2:])  # Pillow says nothing
    fault, detail = reason(path)
    assert fault == "damaged file"
    assert detail.startswith("Corrupt JPEG data: ")
    assert read_photograph(path, strict=False).shape == (3, 110, 90)


def test_pixels_of_unknown_range_are_not_guessed(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 3.5, np.float32)).save(tmp_path / "f.tiff")
    assert reason(tmp_path / "f.tiff") == ("unknown range of pixels", "3.5 to 3.5, wanted 0 to 1")
    Image.fromarray(np.full((4, 5), 70_000, np.int32)).save(tmp_path / "i.tiff")
    assert reason(tmp_path / "i.tiff") == ("unknown range of pixels", "70000 to 70000, wanted 0 to 65535")


def test_hostile_metadata_harms_no_pixel(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(pictures.smooth()).save(data, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(40))
    (tmp_path / "a.png").write_bytes(data.getvalue())
    assert read_photograph(tmp_path / "a.png").shape == (3, 110, 90)


def test_messages_name_file_reason_and_limits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"read_photograph: '.*gone.jpg': cannot be read \(No such file"):
        read_photograph(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"'max_pixels' must lie in \[1, 178956970\], got 200000000"):
        read_photograph(tmp_path / "a", max_pixels=200_000_000)
    with pytest.raises(ValueError, match="'max_bytes' must be at least 1, got 0"):
        read_photograph(tmp_path / "a", max_bytes=0)
