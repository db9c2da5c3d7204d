from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.alignment.similarity import LandmarkProblem, estimate_similarity
from facemtl.alignment.templates import FaceTemplate

TEMPLATE = FaceTemplate.arcface().tensor()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ((5, 2), (5, 2), r"'source' must have shape \(faces, points, 2\), got \(5, 2\). Add an axis"),
        ((3, 5, 3), (5, 2), r"two points or more, got \(3, 5, 3\)"),
        ((3, 1, 2), (1, 2), r"two points or more, got \(3, 1, 2\)"),
        ((3, 5, 2), (4, 2), r"'target' must have shape \(5, 2\) or \(3, 5, 2\), got \(4, 2\)"),
        ((3, 5, 2), (2, 5, 2), r"'target' must have shape \(5, 2\) or \(3, 5, 2\), got \(2, 5, 2\)"),
    ],
)
def test_shapes_agree(source: tuple[int, ...], target: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        estimate_similarity(torch.zeros(source), torch.zeros(target))


def test_points_are_floats() -> None:
    with pytest.raises(TypeError, match="'source' must have a floating-point dtype, got torch.int64"):
        estimate_similarity(torch.zeros(1, 5, 2, dtype=torch.int64), TEMPLATE)
    with pytest.raises(TypeError, match="'target' must have a floating-point dtype, got torch.int64"):
        estimate_similarity(torch.zeros(1, 5, 2), TEMPLATE.long())


def test_weights_are_at_least_zero_and_of_the_points() -> None:
    source = TEMPLATE[None]
    with pytest.raises(ShapeError, match=r"'weights' must have shape \(5,\) or \(1, 5\), got \(4,\)"):
        estimate_similarity(source, TEMPLATE, weights=torch.ones(4))
    with pytest.raises(ValueError, match="'weights' must be finite and at least 0; got -1.0 at index 2"):
        estimate_similarity(source, TEMPLATE, weights=torch.tensor([1.0, 1, -1, 1, 1]))
    with pytest.raises(ValueError, match="got nan at index 4"):
        estimate_similarity(source, TEMPLATE, weights=torch.tensor([1.0, 1, 1, 1, float("nan")]))


def test_bad_faces_are_named_with_their_reason() -> None:
    source = (2 * TEMPLATE + 9).repeat(5, 1, 1)
    source[1, 0, 0] = float("inf")
    source[2] = 7.0
    source[3] = torch.arange(5)[:, None] * torch.tensor([5.0, 2.0])
    source[4] = source[4, [1, 0, 2, 4, 3]]
    with pytest.raises(
        ValueError,
        match="face 1: landmarks are not finite, face 2: landmarks coincide, face 3: landmarks lie on one line, "
        "face 4: landmarks are mirrored: left and right are swapped. Drop these faces",
    ):
        estimate_similarity(source, TEMPLATE, invalid="error")
    problems = estimate_similarity(source, TEMPLATE).problems.tolist()
    assert [LandmarkProblem(value).name for value in problems] == [
        "NONE", "NOT_FINITE", "COINCIDENT", "COLLINEAR", "MIRRORED",
    ]  # fmt: skip


def test_many_bad_faces_are_counted() -> None:
    with pytest.raises(ValueError, match="face 4: landmarks coincide and 3 more"):
        estimate_similarity(torch.zeros(8, 5, 2), TEMPLATE, invalid="error")


def test_invalid_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'invalid' must be 'mask' or 'error', got 'skip'"):
        estimate_similarity(TEMPLATE[None], TEMPLATE, invalid="skip")  # type: ignore[arg-type]


def test_all_weights_zero_is_a_problem_not_a_division() -> None:
    fit = estimate_similarity(TEMPLATE[None], TEMPLATE, weights=torch.zeros(5))
    assert int(fit.problems) == LandmarkProblem.COINCIDENT
    assert fit.matrices.isfinite().all()
