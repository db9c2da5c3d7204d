from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from facemtl._core.pixels import to_model_input
from facemtl.alignment.colour import match_colours
from facemtl.alignment.masks import face_mask
from facemtl.alignment.paste_back import paste_back
from facemtl.alignment.paste_sampling import Affine, resample
from facemtl.alignment.similarity import invert_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from tests.conftest import SHARED
from tests.pasting import cut, masked, naive_paste, noise, planted, smooth


def double(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.0, 1.2])
@pytest.mark.parametrize("turn", [0.0, 0.4, 2.5])
def test_equals_a_loop_over_pixels(scale: float, turn: float) -> None:
    photograph, crop = double(3, 26, 31), double(3, 12, 14, seed=1)
    matrix = planted(scale, turn, (14.3, 13.1), (12, 14))
    if scale < 0.5:  # a face as large as this would stick out, and padding is not pasted
        photograph = double(3, 74, 76)
        matrix = planted(scale, turn, (37.3, 36.1), (12, 14))
    mask = face_mask(12, 14, feather=0.3)
    want = naive_paste(photograph, crop, mask[0, 0], matrix[0])
    got = paste_back(photograph[None], crop[None], matrix, feather=0.3)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    single = paste_back(photograph[None].float(), crop[None].float(), matrix, feather=0.3)[0]
    torch.testing.assert_close(single.double(), want, rtol=0, atol=5e-6)
    pixels = ((photograph + 1) * 127.5).round().to(torch.uint8)
    levels = naive_paste(pixels.double() / 127.5 - 1, crop, mask[0, 0], matrix[0]).add(1).mul(127.5)
    drawn = paste_back(pixels[None], crop[None], matrix, feather=0.3)[0]
    assert (drawn.double() - levels).abs().max() <= 0.5 + 1e-6


def test_a_random_mask_of_the_caller_equals_the_loop() -> None:
    photograph, crop = double(3, 26, 31), double(3, 12, 14, seed=1)
    mask = double(1, 1, 12, 14, seed=2).abs()
    matrix = planted(0.9, 0.3, (14.3, 13.1), (12, 14))
    got = paste_back(photograph[None], crop[None], matrix, mask=mask)[0]
    torch.testing.assert_close(got, naive_paste(photograph, crop, mask[0, 0], matrix[0]), rtol=0, atol=1e-12)


def test_masking_before_the_warp_differs_little_from_masking_after() -> None:
    photograph, crop = smooth(90, 90)[0], smooth(40, 40, seed=1, wavelength=40.0)[0]
    matrix = planted(0.6, 0.3, (45, 44), (40, 40))
    got = paste_back(photograph[None], crop[None], matrix)[0]
    apart = naive_paste(photograph, crop, face_mask(40, 40)[0, 0], matrix[0], apart=True)
    assert (got - apart).abs().max() < 1 / 127.5


@pytest.mark.parametrize("scale", [0.2, 0.9])
def test_equals_opencv_over_the_whole_photograph(scale: float) -> None:
    photograph, crop = noise(1, 3, 480, 640), noise(1, 3, 64, 64, seed=1)
    matrix = planted(scale, 0.2, (320.4, 240.7), (64, 64))
    mask = face_mask(64, 64)
    layer = torch.cat((mask * crop, mask), 1)[0].movedim(0, 2).numpy()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = torch.from_numpy(cv2.warpAffine(layer, matrix[0].numpy(), (640, 480), flags=flags)).movedim(2, 0)
    want = warped[:3] + (1 - warped[3:]) * photograph[0]
    exact = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV 4 counts in 1/32 of a pixel
    assert (paste_back(photograph, crop, matrix)[0] - want).abs().max() < (2e-3 if exact else 0.15)


@pytest.mark.parametrize("scale", [2.0, 3.7, 8.0])
def test_a_shrunk_crop_is_the_mean_of_the_area_under_each_pixel(scale: float) -> None:
    crop, mask = double(1, 3, 112, 112), torch.ones(1, 1, 112, 112)
    mask[..., :8, :] = mask[..., -8:, :] = mask[..., :, :8] = mask[..., :, -8:] = 0
    side = int(112 / scale) + 6
    matrix = planted(scale, 0.35, (side / 2, side / 2), (112, 112))
    photograph = torch.zeros(1, 3, side, side, dtype=torch.float64)
    got = paste_back(photograph, crop, matrix, mask=mask)
    fine = 32  # 32 x 32 samples of each pixel stand for the integral over its area
    dense = planted(
        scale / fine, 0.35, (side * fine / 2 + (fine - 1) / 2, side * fine / 2 + (fine - 1) / 2), (112, 112)
    )
    canvas = torch.zeros(1, 3, side * fine, side * fine, dtype=torch.float64)
    want = torch.nn.functional.avg_pool2d(paste_back(canvas, crop, dense, mask=mask), fine)
    skipping = resample(mask * crop, Affine(*matrix.flatten().tolist()), (side, side))
    contrast = want.square().mean()
    # White noise is the worst there is: skipping pixels misses by more than there is to see.
    assert (got - want).square().mean() < 0.03 * contrast
    assert (skipping - want).square().mean() > contrast


def test_positions_hold_in_a_photograph_of_ten_thousand_pixels() -> None:
    strip = torch.zeros(1, 3, 40, 10_000)
    crop = double(1, 3, 24, 24).float()
    centre = (9_980.3, 20.4)
    matrix = planted(0.9, 0.1, centre, (24, 24))
    far = paste_back(strip, crop, matrix)[0, :, :, 9_960:]
    near = paste_back(strip[..., :40], crop, planted(0.9, 0.1, (centre[0] - 9_960, centre[1]), (24, 24)))[0]
    assert (far - near).abs().max() < 1e-5
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 1, 64)
    to_ramp = Affine(64 / 10_000, 0.0, 32 / 10_000 - 0.5, 0.0, 1.0, 0.0)
    stretched = resample(ramp, to_ramp, (1, 10_000), padding="border")[0, 0, 0].double()
    at = (torch.arange(10_000, dtype=torch.float64) + 0.5) * 64 / 10_000 - 0.5
    assert (stretched - (at.clamp(0, 63) / 31.5 - 1)).abs().max() < 1e-6


def test_gradients_are_right() -> None:
    photograph, crops, originals = (
        double(1, 3, 6, 7) / 2,
        double(2, 3, 4, 5, seed=1) / 2,
        double(2, 3, 4, 5, seed=2) / 2,
    )
    mask = double(2, 1, 4, 5, seed=3).abs() * 0.8 + 0.1
    matrices = torch.cat((planted(0.8, 0.3, (3, 3), (4, 5)), planted(2.5, 0.3, (3, 4), (4, 5))))  # overlapping
    index = torch.tensor([0, 0])

    def paste(photograph: Tensor, crops: Tensor, mask: Tensor) -> Tensor:
        return paste_back(photograph, crops, matrices, mask=mask, image_index=index)

    inputs = tuple(tensor.requires_grad_() for tensor in (photograph, crops, mask))
    assert torch.autograd.gradcheck(paste, inputs)

    def change(crops: Tensor, originals: Tensor) -> Tensor:
        return paste_back(
            photograph.detach(), crops, matrices, originals=originals, image_index=index, match_colour="mean_std"
        )

    assert torch.autograd.gradcheck(change, (crops, originals.requires_grad_()), atol=1e-4)


def test_gradients_are_right_where_a_face_sticks_out() -> None:
    photograph, crops = double(1, 3, 6, 7) / 2, double(1, 3, 8, 8, seed=1) / 2
    matrix = planted(0.9, 0.3, (1, 2), (8, 8))
    assert torch.autograd.gradcheck(
        lambda crops: paste_back(photograph, crops, matrix, match_colour="mean"), (crops.requires_grad_(),), atol=1e-4
    )


def test_no_gradient_reaches_a_face_that_is_not_valid() -> None:
    crops = double(2, 3, 8, 8).requires_grad_()
    matrices = planted(1.0, 0.0, (4, 4), (8, 8)).repeat(2, 1, 1)
    paste_back(double(2, 3, 9, 9), crops, matrices, valid=torch.tensor([True, False])).sum().backward()
    assert crops.grad is not None
    assert crops.grad[0].abs().sum() > 0
    assert not crops.grad[1].any()


def lab(pixels: Tensor, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = rgb2lab((pixels.movedim(1, -1).numpy() + 1) / 2)[0].reshape(-1, 3)
    share = weights.flatten().numpy() / weights.sum().item()
    mean = share @ values
    return mean, np.sqrt(share @ (values - mean) ** 2)


def test_matched_statistics_are_those_of_the_reference_in_skimages_lab() -> None:
    crop, reference = 0.3 * double(1, 3, 30, 30) + 0.2, 0.4 * double(1, 3, 30, 30, seed=1) - 0.1
    weights = face_mask(30, 30, dtype=torch.float64)
    matched = match_colours(crop, reference, weights=weights)
    (mean, spread), (want, want_spread) = lab(matched, weights), lab(reference, weights)
    np.testing.assert_allclose(mean, want, atol=0.05)
    np.testing.assert_allclose(spread, want_spread, rtol=0.02)
    shifted = match_colours(crop, reference, weights=weights, statistics="mean")
    (mean, spread), (_, crop_spread) = lab(shifted, weights), lab(crop, weights)
    np.testing.assert_allclose(mean, want, atol=0.05)
    np.testing.assert_allclose(spread, crop_spread, rtol=0.02)


def test_contrast_changes_at_most_twofold() -> None:
    weights = torch.ones(1, 1, 30, 30, dtype=torch.float64)
    crop = 0.05 * double(1, 3, 30, 30)
    matched = match_colours(crop, 0.9 * double(1, 3, 30, 30, seed=1), weights=weights)
    ratio = lab(matched, weights)[1] / lab(crop, weights)[1]
    np.testing.assert_allclose(ratio, 2.0, rtol=0.03)


def test_colours_outside_the_weights_do_not_count_and_no_weight_changes_nothing() -> None:
    crop, reference = 0.3 * double(1, 3, 20, 20), 0.3 * double(1, 3, 20, 20, seed=1) + 0.3
    weights = torch.zeros(1, 1, 20, 20, dtype=torch.float64)
    assert torch.equal(match_colours(crop, reference, weights=weights), crop)
    weights[..., 5:15, 5:15] = 1
    want = match_colours(crop, reference, weights=weights)
    other = torch.where(weights > 0, reference, -1.0)
    assert torch.equal(match_colours(crop, other, weights=weights), want)


def test_the_mask_is_the_formula() -> None:
    mask = face_mask(41, 21, feather=0.2, dtype=torch.float64)[0, 0]
    for row in range(41):
        for column in range(21):
            y, x = (row - 20) / 20, (column - 10) / 10
            t = min(max((1 - (x**4 + y**4) ** 0.25) / 0.4, 0), 1)
            assert math.isclose(mask[row, column].item(), t * t * (3 - 2 * t), abs_tol=2e-6)


def test_the_whole_photographs_mask_is_where_results_differ() -> None:
    """The helper that the properties use to say what is outside."""
    matrix = planted(0.7, 0.5, (22, 21), (20, 20))
    changed = (paste_back(double(1, 3, 45, 45), double(1, 3, 20, 20, seed=1), matrix) != double(1, 3, 45, 45)).any(1)[0]
    assert torch.equal(changed, masked(double(1, 3, 45, 45), matrix, (20, 20)))
    assert 0.3 * (20 / 0.7) ** 2 < changed.sum() < (20 / 0.7) ** 2


@pytest.mark.parametrize("antialias", [True, False])
def test_a_crop_of_noise_comes_back_blurred_but_in_its_place(antialias: bool) -> None:
    """No half-pixel shift: the crop of a symmetrical bump stays symmetrical about the same centre."""
    y, x = torch.arange(121, dtype=torch.float64)[:, None], torch.arange(121, dtype=torch.float64)
    bump = torch.exp(-((x - 60).square() + (y - 60).square()) / 50).expand(1, 3, -1, -1)
    for scale in (0.37, 1.0, 2.3):
        matrix = planted(scale, 0.3, (60, 60), (64, 64))
        result = paste_back(torch.zeros_like(bump), cut(bump, matrix, (64, 64), antialias=antialias), matrix)[0, 0]
        centre = [(axis * result).sum() / result.sum() for axis in (x, y)]
        assert max(abs(c - 60) for c in centre) < 0.01


def shift(result: Tensor, photograph: Tensor) -> list[float]:
    """By how many pixels, in x and y, ``result`` has moved: least squares on the slopes of the photograph.

    A symmetrical blur changes pixels in proportion to curvature, which does not correlate with slope.
    """
    change = (result - photograph)[:, 1:-1, 1:-1]
    slopes = (
        (photograph[:, 1:-1, 2:] - photograph[:, 1:-1, :-2]) / 2,
        (photograph[:, 2:, 1:-1] - photograph[:, :-2, 1:-1]) / 2,
    )
    table = torch.stack([slope[change != 0] for slope in slopes], 1)
    return (-torch.linalg.lstsq(table, change[change != 0][:, None]).solution.flatten()).tolist()


def test_the_measure_of_shift_measures_shift() -> None:
    image = smooth(90, 90, wavelength=30.0)[0]
    assert shift(0.5 * image + 0.5 * image.roll(1, 2), image)[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("scale", [0.3, 0.9])
def test_real_photographs_do_not_move_and_keep_their_colours(antialias: bool, scale: float) -> None:
    from PIL import Image

    paths = sorted((SHARED / "faces" / "portraits").glob("*.jpg"))
    if not paths:
        pytest.skip("the photographs are not on this machine")
    template = FaceTemplate.arcface()
    for path in paths:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(2, 0)
        photograph = to_model_input(pixels, dtype=torch.float64)
        middle = (photograph.shape[2] / 2, photograph.shape[1] / 2)
        landmarks = transform_points(
            invert_similarity(planted(scale, 0.2, middle, (112, 112))), template.tensor()[None]
        )
        faces = FaceAligner(template, antialias=antialias)(photograph[None], landmarks)
        result = paste_back(photograph[None], faces.crops, faces.matrices)[0]
        assert max(map(abs, shift(result, photograph))) < 0.05
        inside = masked(photograph[None], faces.matrices, (112, 112))
        assert (result - photograph)[:, inside].mean(1).abs().max() < 0.5 / 127.5
        assert torch.equal(result[:, ~inside], photograph[:, ~inside])
        whole = paste_back(pixels[None], faces.crops, faces.matrices, originals=faces.crops)[0]
        assert torch.equal(whole, pixels)


class LargestFloats(TorchDispatchMode):
    """Notes how many elements the largest floating-point result of any operation has."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("options", [{}, {"match_colour": "mean_std"}, {"originals": torch.zeros(1, 3, 112, 112)}])
@pytest.mark.parametrize("centre", [(2000, 1500), (0, 1500)])
def test_a_large_photograph_is_never_copied_into_floats(options: dict[str, Any], centre: tuple[int, int]) -> None:
    photograph = torch.zeros(1, 3, 3000, 4000, dtype=torch.uint8)
    matrix = planted(112 / 2000, 0.2, centre, (112, 112))
    with LargestFloats() as largest:
        paste_back(photograph, noise(1, 3, 112, 112), matrix, **options)
    # The face covers 4 million pixels of 3 channels; what is in floats at once is a band of them, or a crop's samples.
    assert 100_000 < largest.elements < 1_500_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_crops_of_half_precision_are_pasted_in_float32(dtype: torch.dtype) -> None:
    photograph, crop, matrix = (
        noise(1, 3, 30, 30),
        noise(1, 3, 16, 16, seed=1).to(dtype),
        planted(0.8, 0.3, (14, 15), (16, 16)),
    )
    assert torch.equal(paste_back(photograph, crop, matrix), paste_back(photograph, crop.float(), matrix))
