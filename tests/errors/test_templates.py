from __future__ import annotations

import math

import pytest

from facemtl.alignment.templates import FaceTemplate


def test_points_are_two_or_more_and_finite() -> None:
    with pytest.raises(ValueError, match=r"'points' must be at least two, got 1"):
        FaceTemplate(((1.0, 2.0),), 8, 8)
    with pytest.raises(ValueError, match=r"finite \(x, y\) pairs, got \(nan, 2.0\) at index 1"):
        FaceTemplate(((1.0, 2.0), (math.nan, 2.0)), 8, 8)


def test_sides_are_positive() -> None:
    with pytest.raises(ValueError, match="'height' must be at least 1 pixel, got 0"):
        FaceTemplate(((1.0, 2.0), (3.0, 2.0)), 0, 8)
    with pytest.raises(ValueError, match="'width' must be at least 1 pixel, got -3"):
        FaceTemplate(((1.0, 2.0), (3.0, 2.0)), 8, -3)
    with pytest.raises(ValueError, match=r"'size' must be positive, got \(112, 0\)"):
        FaceTemplate.arcface((112, 0))


def test_insightface_sizes_are_multiples() -> None:
    with pytest.raises(ValueError, match="a multiple of 112 or of 128, got 200"):
        FaceTemplate.insightface(200)


def test_resizing_keeps_the_proportion() -> None:
    with pytest.raises(ValueError, match="the proportion of 112 x 96 in whole pixels, got 224 x 224"):
        FaceTemplate.arcface((112, 96)).resized(224, 224)
    with pytest.raises(ValueError, match="in whole pixels, got 100 x 85.7143"):
        FaceTemplate.arcface((112, 96)).resized(100)
