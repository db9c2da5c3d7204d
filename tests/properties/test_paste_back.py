from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from facemtl.alignment.masks import face_mask
from facemtl.alignment.paste_back import paste_back
from facemtl.alignment.similarity import invert_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from tests.pasting import cut, masked, noise, planted, smooth

SIZES = st.tuples(st.integers(4, 40), st.integers(4, 40))
SCALES = st.floats(0.15, 6.0)
TURNS = st.floats(-3.2, 3.2)
PLACES = st.floats(-0.2, 1.2)
SEEDS = st.integers(0, 10_000)
DTYPES = st.sampled_from([torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])


def place(height: int, width: int, share: tuple[float, float]) -> tuple[float, float]:
    return share[0] * (width - 1), share[1] * (height - 1)


def unruly(size: tuple[int, int], *, seed: int, dtype: torch.dtype) -> Tensor:
    """A photograph of noise; one of floats overshoots and has zeros with a sign, which must stay as they are too."""
    photograph = noise(1, 3, *size, seed=seed, dtype=dtype)
    if dtype.is_floating_point:
        photograph = torch.where(photograph.abs() < 0.2, -0.0, 1.4 * photograph).to(dtype)
    return photograph


def bits(pixels: Tensor) -> Tensor:
    return pixels.contiguous().view(torch.uint8)


@given(size=SIZES, crop=SIZES, scale=SCALES, turn=TURNS, at=st.tuples(PLACES, PLACES), dtype=DTYPES, seed=SEEDS)
def test_pixels_outside_the_mask_stay_bit_for_bit(
    size: tuple[int, int],
    crop: tuple[int, int],
    scale: float,
    turn: float,
    at: tuple[float, float],
    dtype: torch.dtype,
    seed: int,
) -> None:
    photograph = unruly(size, seed=seed, dtype=dtype)
    matrix = planted(scale, turn, place(*size, at), crop)
    before = photograph.clone()
    faces = noise(1, 3, *crop, seed=seed + 1)
    outside = ~masked(photograph, matrix, crop)
    for result in (
        paste_back(photograph, faces, matrix),
        paste_back(photograph, faces, matrix, match_colour="mean_std"),
        paste_back(photograph, faces, matrix, originals=noise(1, 3, *crop, seed=seed + 2)),
    ):
        assert result.dtype == dtype
        assert torch.equal(bits(result[0][:, outside]), bits(before[0][:, outside]))
        assert torch.equal(bits(photograph), bits(before))
        if dtype.is_floating_point:
            assert (result[result != before].abs() <= 1.0).all()


@given(
    side=st.integers(60, 130), scale=st.floats(0.12, 4.0), turn=TURNS, at=st.tuples(PLACES, PLACES),
    antialias=st.booleans(), padding=st.sampled_from(["zeros", "border"]),
    match=st.sampled_from(["none", "mean", "mean_std"]), seed=SEEDS,
)  # fmt: skip
@example(side=112, scale=1.0, turn=0.0, at=(0.0, 0.5), antialias=False, padding="zeros", match="none", seed=0)
@example(side=112, scale=0.3, turn=0.785, at=(0.0, 0.0), antialias=True, padding="zeros", match="none", seed=0)
@example(side=112, scale=4.0, turn=0.3, at=(1.0, 1.0), antialias=True, padding="border", match="none", seed=0)
def test_an_aligned_and_unchanged_crop_of_a_smooth_image_hardly_moves_it(
    side: int, scale: float, turn: float, at: tuple[float, float], antialias: bool, padding: str, match: str, seed: int
) -> None:
    size = (int(1.5 * side / max(scale, 0.3)), int(1.2 * side / max(scale, 0.3)))
    photograph = smooth(*size, seed=seed, wavelength=60.0 / min(scale, 1.0))
    template = FaceTemplate.arcface(side)
    matrix = planted(scale, turn, place(*size, at), (side, side))
    landmarks = transform_points(invert_similarity(matrix), template.tensor()[None])
    faces = FaceAligner(template, antialias=antialias, padding=padding)(photograph, landmarks)
    result = paste_back(photograph, faces.crops, faces.matrices, valid=faces.valid, match_colour=match)
    assert (result - photograph).abs().max() < 2 / 127.5
    outside = ~masked(photograph, faces.matrices, (side, side))
    assert torch.equal(result[0][:, outside], photograph[0][:, outside])
    pixels = ((photograph + 1) * 127.5).round().to(torch.uint8)
    moved = paste_back(pixels, faces.crops.float(), faces.matrices, match_colour=match).int() - pixels.int()
    assert moved.abs().max() <= 2
    assert not moved[0][:, outside].any()


@given(size=SIZES, crop=SIZES, scale=SCALES, turn=TURNS, at=st.tuples(PLACES, PLACES), dtype=DTYPES, seed=SEEDS)
def test_the_change_of_an_unchanged_crop_is_nothing(
    size: tuple[int, int],
    crop: tuple[int, int],
    scale: float,
    turn: float,
    at: tuple[float, float],
    dtype: torch.dtype,
    seed: int,
) -> None:
    photograph = unruly(size, seed=seed, dtype=dtype)
    faces = noise(1, 3, *crop, seed=seed + 1)
    result = paste_back(photograph, faces, planted(scale, turn, place(*size, at), crop), originals=faces)
    assert torch.equal(bits(result), bits(photograph))


@given(crop=st.integers(4, 20), turns=st.lists(TURNS, min_size=4, max_size=4), dtype=DTYPES, seed=SEEDS)
def test_the_order_of_faces_apart_does_not_matter(crop: int, turns: list[float], dtype: torch.dtype, seed: int) -> None:
    photographs = noise(2, 3, 30, 90, seed=seed, dtype=dtype)
    centres = [(15, 15), (45, 15), (75, 15), (15, 15)]
    matrices = torch.cat([planted(crop / 20, t, c, (crop, crop)) for t, c in zip(turns, centres, strict=True)])
    index, faces = torch.tensor([0, 0, 0, 1]), noise(4, 3, crop, crop, seed=seed)
    order = torch.tensor([3, 1, 0, 2])
    want = paste_back(photographs, faces, matrices, image_index=index)
    got = paste_back(photographs, faces[order], matrices[order], image_index=index[order])
    assert torch.equal(got, want)


def test_later_faces_lie_over_earlier_ones() -> None:
    crops = torch.stack((torch.full((3, 20, 20), -0.5), torch.full((3, 20, 20), 0.5)))
    matrices = planted(1.0, 0.0, (15, 15), (20, 20)).repeat(2, 1, 1)
    result = paste_back(torch.zeros(1, 3, 30, 30), crops, matrices, image_index=torch.tensor([0, 0]))
    assert result[0, 0, 15, 15] == 0.5


@given(size=SIZES, dtype=DTYPES, match=st.sampled_from(["none", "mean", "mean_std"]), seed=SEEDS)
def test_a_list_equals_a_batch(size: tuple[int, int], dtype: torch.dtype, match: str, seed: int) -> None:
    photographs, faces = noise(3, 3, *size, seed=seed, dtype=dtype), noise(2, 3, 8, 9, seed=seed)
    matrices = torch.cat([planted(0.7, 0.2, (3, 4), (8, 9)), planted(2.0, -1.0, (9, 2), (8, 9))])
    index = torch.tensor([2, 0])
    batch = paste_back(photographs, faces, matrices, image_index=index, match_colour=match)
    single = paste_back(list(photographs), faces, matrices, image_index=index, match_colour=match)
    assert isinstance(single, list)
    assert torch.equal(torch.stack(single), batch)
    assert torch.equal(batch[1], photographs[1])


def test_photographs_of_different_sizes_make_one_list() -> None:
    photographs = [noise(3, 20, 30), noise(3, 1, 1), noise(3, 40, 15)]
    faces = torch.zeros(3, 3, 9, 9)
    matrices = torch.cat([planted(0.6, 0.1, (10, 10), (9, 9))] * 3)
    results = paste_back(photographs, faces, matrices)
    for photograph, result, matrix in zip(photographs, results, matrices, strict=True):
        assert torch.equal(result, paste_back(photograph[None], faces[:1], matrix[None])[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_no_faces_change_nothing(dtype: torch.dtype) -> None:
    faces, matrices, index = torch.zeros(0, 3, 8, 8), torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.long)
    photographs = noise(2, 3, 6, 5, dtype=dtype)
    result = paste_back(photographs, faces, matrices, image_index=index)
    assert torch.equal(result, photographs)
    assert result.data_ptr() != photographs.data_ptr()
    listed = paste_back(list(photographs), faces, matrices, image_index=index)
    assert torch.equal(torch.stack(listed), photographs)
    assert paste_back([], faces, matrices) == []
    assert paste_back(photographs[:0], faces, matrices).shape == (0, 3, 6, 5)


@given(valid=st.lists(st.booleans(), min_size=3, max_size=3), seed=SEEDS)
def test_faces_that_are_not_valid_leave_their_photograph(valid: list[bool], seed: int) -> None:
    photographs, faces = noise(3, 3, 20, 20, seed=seed), noise(3, 3, 12, 12, seed=seed + 1)
    matrices = torch.cat([planted(1.0, 0.3, (10, 10), (12, 12))] * 3)
    want = paste_back(photographs, faces, matrices)
    for row, good in enumerate(valid):
        if not good:  # what an invalid row holds is nobody's business
            want[row], faces[row], matrices[row] = photographs[row], float("nan"), float("inf") * (row - 1)
    assert torch.equal(paste_back(photographs, faces, matrices, valid=torch.tensor(valid)), want)


@given(scale=st.floats(1e-9, 1e9), at=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)))
@example(scale=1e9, at=(5.0, 5.0))
@example(scale=1e-9, at=(5.0, 5.0))
def test_absurd_scales_and_places_stay_finite(scale: float, at: tuple[float, float]) -> None:
    photograph = noise(1, 3, 11, 11)
    matrix = planted(scale, 0.3, at, (8, 8))
    result = paste_back(photograph, noise(1, 3, 8, 8, seed=1), matrix)
    assert result.isfinite().all()
    assert result.abs().max() <= 1.0


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 3.0])
def test_a_bright_face_half_outside_reaches_the_edge(scale: float) -> None:
    side = int(112 / scale)
    photograph = torch.full((1, 3, side, side), -0.5, dtype=torch.float64)
    matrix = planted(scale, 0.2, (0.0, side / 2), (112, 112))
    crop = cut(photograph, matrix, (112, 112))
    original = crop.clone()
    crop[crop != 0.0] += 0.6  # the padding stays grey
    for result in (
        paste_back(photograph, crop, matrix),
        paste_back(photograph, crop, matrix, originals=original),
    ):
        column = result[0, 0, side // 4 : side // 2, 0]
        assert (column - 0.1).abs().max() < 0.01


def test_what_the_mask_hides_does_not_bleed() -> None:
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 4:12] = True
    crop = torch.where(mask, 0.25, -1.0).expand(1, 3, -1, -1)
    photograph = torch.full((1, 3, 30, 30), 0.25)
    result = paste_back(photograph, crop, planted(0.8, 0.4, (15, 15), (16, 16)), mask=mask)
    assert (result - 0.25).abs().max() < 1e-6


@given(size=SIZES, crop=SIZES, scale=SCALES, turn=TURNS, seed=SEEDS)
def test_drawing_in_bands_and_at_once_are_the_same(
    size: tuple[int, int], crop: tuple[int, int], scale: float, turn: float, seed: int
) -> None:
    from unittest.mock import patch

    photograph, faces = noise(1, 3, *size, seed=seed), noise(1, 3, *crop, seed=seed)
    matrix = planted(scale, turn, place(*size, (0.4, 0.6)), crop)
    whole = paste_back(photograph, faces.requires_grad_(), matrix).detach()
    with patch.dict("facemtl.alignment.paste_back._BAND", cpu=100), torch.no_grad():
        banded = paste_back(photograph, faces, matrix)
    assert (banded - whole).abs().max() < 2e-5  # positions of float32 count from each band's corner


def test_memory_layout_is_kept() -> None:
    faces, matrix = noise(2, 3, 8, 8), planted(0.5, 0.0, (8, 8), (8, 8)).repeat(2, 1, 1)
    last = noise(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    result = paste_back(last, faces, matrix)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, paste_back(last.contiguous(), faces, matrix))
    from_file = noise(16, 16, 3, dtype=torch.uint8).permute(2, 0, 1)
    assert paste_back([from_file], faces[:1], matrix[:1])[0].stride() == from_file.stride()
    repeated = noise(1, 3, 16, 16).expand(2, -1, -1, -1)
    assert not torch.equal(*paste_back(repeated, faces, matrix))


def test_autocast_changes_nothing() -> None:
    photograph, faces, matrix = noise(1, 3, 30, 30), noise(1, 3, 20, 20, seed=1), planted(0.9, 0.3, (14, 15), (20, 20))
    want = paste_back(photograph, faces, matrix, match_colour="mean_std")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(paste_back(photograph, faces, matrix, match_colour="mean_std"), want)


def test_uint8_crops_are_the_floats_they_stand_for() -> None:
    matrix, pixels = planted(0.9, 0.3, (14, 15), (20, 20)), noise(1, 3, 20, 20, dtype=torch.uint8)
    faces = pixels.double() / 127.5 - 1
    for photograph in (noise(1, 3, 30, 30, dtype=torch.float64), noise(1, 3, 30, 30, dtype=torch.uint8)):
        got, want = paste_back(photograph, pixels, matrix), paste_back(photograph, faces, matrix)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6 if photograph.is_floating_point() else 1)


def test_overshoot_of_a_network_is_clamped() -> None:
    result = paste_back(torch.zeros(1, 3, 9, 9), torch.full((1, 3, 9, 9), 1.4), planted(1.0, 0.0, (4, 4), (9, 9)))
    assert result.max() == 1.0


def test_inference_mode_and_no_gradient_for_uint8() -> None:
    faces = noise(1, 3, 9, 9).requires_grad_()
    assert not paste_back(noise(1, 3, 9, 9, dtype=torch.uint8), faces, planted(1.0, 0.0, (4, 4), (9, 9))).requires_grad
    with torch.inference_mode():
        paste_back(noise(1, 3, 9, 9), noise(1, 3, 9, 9), planted(1.0, 0.0, (4, 4), (9, 9)))


@given(height=st.integers(1, 70), width=st.integers(1, 70), feather=st.floats(0.02, 0.5))
def test_masks_fade_to_nothing_at_the_border(height: int, width: int, feather: float) -> None:
    mask = face_mask(height, width, feather=feather)[0, 0]
    assert mask.shape == (height, width)
    assert mask.min() >= 0.0
    assert mask.max() <= 1.0
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert not edge.any()
    torch.testing.assert_close(mask, mask.flip(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(mask, mask.flip(1), rtol=0, atol=1e-6)
    middle = mask[: (height + 1) // 2, width // 2]
    assert (middle.diff() >= -1e-6).all()


@given(feather=st.floats(0.05, 0.5))
def test_masks_have_no_kink(feather: float) -> None:
    side = 4001
    profile = face_mask(side, 3, feather=feather, dtype=torch.float64)[0, 0, :, 1]
    step = 1 / (side - 1)
    slope = profile.diff() / step
    assert slope.abs().max() <= 1.5 / feather * 1.01
    # The slope of a smoothstep changes by at most 6 / feather^2 a unit: no jump, not where it starts nor where it ends.
    assert slope.diff().abs().max() <= 6 / feather**2 * step * 1.05 + 4 * 2**-23 / step
    assert profile[side // 2] == 1.0


@given(shift=st.floats(0.1, 0.3), sign=st.sampled_from([-1, 1]), how=st.sampled_from(["mean", "mean_std"]), seed=SEEDS)
def test_a_tint_is_matched_away(shift: float, sign: int, how: str, seed: int) -> None:
    photograph = 0.6 * smooth(112, 112, seed=seed, wavelength=60.0)
    matrix = planted(1.0, 0.0, (55.5, 55.5), (112, 112))
    tint = sign * torch.tensor([shift, -shift, shift / 2], dtype=torch.float64)[:, None, None]
    tinted = (photograph + tint).clamp(-1, 1)
    plain, matched = (paste_back(photograph, tinted, matrix, match_colour=m) for m in ("none", how))
    assert (matched - photograph).abs().mean() < 0.5 * (plain - photograph).abs().mean()


@given(colour=st.lists(st.floats(-1, 1), min_size=6, max_size=6), how=st.sampled_from(["mean", "mean_std"]))
@example(colour=[-1.0] * 6, how="mean_std")
@example(colour=[1.0] * 3 + [-1.0] * 3, how="mean_std")
def test_matching_plain_colours_gives_the_photographs(colour: list[float], how: str) -> None:
    crop, photograph = torch.tensor(colour).reshape(2, 1, 3, 1, 1).expand(-1, -1, -1, 20, 20)
    result = paste_back(photograph, crop, planted(1.0, 0.1, (9.5, 9.5), (20, 20)), match_colour=how)
    assert (result - photograph).abs().max() < 2e-3
