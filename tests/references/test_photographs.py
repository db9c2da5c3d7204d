from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facemtl.data.photographs import PhotographError, read_photograph
from tests import pictures
from tests.conftest import SHARED

RGB = pictures.smooth()
GRAY = RGB[..., 0]


def pixels(path: Path) -> np.ndarray:
    return read_photograph(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", pictures.SUFFIXES)
def test_each_format_gives_what_pillow_gives(tmp_path: Path, suffix: str) -> None:
    path = pictures.save(tmp_path / f"a{suffix}")
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels(path), np.asarray(image.convert("RGB")))
    path.rename(tmp_path / "misnamed.jpg")  # the content says what it is
    assert read_photograph(tmp_path / "misnamed.jpg").shape == (3, 110, 90)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_both_jpeg_decoders_give_the_same_pixels(tmp_path: Path, subsampling: int, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, subsampling=subsampling, progressive=progressive)
    assert torch.equal(read_photograph(path, strict=True), read_photograph(path, strict=False))


def test_gray_is_repeated(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        Image.fromarray(GRAY).save(tmp_path / name, quality=100)
        got = pixels(tmp_path / name)
        np.testing.assert_allclose(got, np.repeat(GRAY[..., None], 3, -1), atol=2)
    Image.fromarray(GRAY > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bits.png")[..., 0], np.where(GRAY > 127, 255, 0))


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    deep = np.arange(110 * 90, dtype=np.uint16).reshape(110, 90) * 6
    wanted = np.rint(deep / 257).astype(np.uint8)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(pixels(tmp_path / name)[..., 1], wanted)
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "i.tiff")
    np.testing.assert_array_equal(pixels(tmp_path / "i.tiff")[..., 1], wanted)
    Image.fromarray((deep / 65535).astype(np.float32)).save(tmp_path / "f.tiff")
    np.testing.assert_allclose(pixels(tmp_path / "f.tiff")[..., 1], wanted, atol=1)
    (tmp_path / "a.pgm").write_bytes(b"P5 90 110 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_allclose(pixels(tmp_path / "a.pgm")[..., 1], wanted, atol=1)


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = RGB.astype(np.uint16) * 257
    for name in ("a.png", "a.tiff"):
        assert cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
        np.testing.assert_array_equal(pixels(tmp_path / name), RGB)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    alpha = np.zeros_like(GRAY)
    alpha[:, 45:] = 128
    alpha[55:, 45:] = 255
    opacity = alpha[..., None] / 255
    rgba = np.concatenate((RGB, alpha[..., None]), -1)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    np.testing.assert_allclose(pixels(tmp_path / "rgba.png"), RGB * opacity + 255 * (1 - opacity), atol=1)
    Image.fromarray(np.stack((GRAY, alpha), -1), "LA").save(tmp_path / "la.png")
    wanted = GRAY * opacity[..., 0] + 255 * (1 - opacity[..., 0])
    np.testing.assert_allclose(pixels(tmp_path / "la.png")[..., 0], wanted, atol=1)


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
    index = palette.getpixel((0, 0))
    palette.save(tmp_path / "t.png", transparency=index)
    got, shown = pixels(tmp_path / "t.png"), np.asarray(palette) != index
    np.testing.assert_array_equal(got[shown], np.asarray(palette.convert("RGB"))[shown])
    assert (got[~shown] == 255).all()


def test_cmyk_becomes_its_colours(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg").astype(int), RGB, atol=8)
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.tiff")
    np.testing.assert_allclose(pixels(tmp_path / "a.tiff").astype(int), RGB, atol=2)


def test_the_first_frame_stands_for_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        got = pixels(tmp_path / name)
        assert got.shape == (10, 20, 3)
        assert (got == [255, 0, 0]).all()


def test_real_photographs_read_without_complaint() -> None:
    files = sorted((SHARED / "faces").rglob("*.jpg"))[::20]
    if not files:
        pytest.skip("real photographs are not on this machine")
    for path in files:
        assert torch.equal(read_photograph(path), read_photograph(path, strict=False))


def test_the_strict_reader_catches_more_flipped_bits(tmp_path: Path) -> None:
    pytest.importorskip("simplejpeg")
    generator = random.Random(3)
    whole = pictures.save(tmp_path / "a.jpg", height=300, width=300).read_bytes()
    caught = {True: 0, False: 0}
    for _ in range(200):
        harmed = bytearray(whole)
        harmed[generator.randrange(20, len(harmed))] ^= 1 << generator.randrange(8)
        (tmp_path / "b.jpg").write_bytes(harmed)
        for strict in caught:
            try:
                read_photograph(tmp_path / "b.jpg", strict=strict)
            except PhotographError:
                caught[strict] += 1
    assert caught[True] > caught[False]
