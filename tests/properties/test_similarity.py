from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.alignment.similarity import LandmarkProblem, estimate_similarity, invert_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate

seeds = st.integers(0, 10**6)
TEMPLATE = FaceTemplate.arcface().tensor()


def similarity(scale: float, turn: float, x: float, y: float) -> torch.Tensor:
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    return torch.tensor([[[a, -b, x], [b, a, y]]], dtype=torch.float64)


def noisy_faces(seed: int, faces: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.empty(faces, 1, 1, dtype=torch.float64).uniform_(0.5, 8, generator=generator)
    noise = torch.randn(faces, 5, 2, generator=generator, dtype=torch.float64)
    shift = 300 * torch.rand(faces, 1, 2, generator=generator, dtype=torch.float64)
    return scale * (TEMPLATE + noise) + shift


@given(
    points=st.integers(2, 20),
    scale=st.floats(0.05, 50),
    turn=st.floats(-math.pi, math.pi),
    x=st.floats(-5000, 5000),
    y=st.floats(-5000, 5000),
    seed=seeds,
)
def test_a_planted_similarity_is_recovered(
    points: int, scale: float, turn: float, x: float, y: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = 112 * torch.rand(points, 2, generator=generator, dtype=torch.float64)
    target[:2] = torch.tensor([[10.0, 20.0], [90.0, 33.0]])
    if points > 2:
        target[2] = torch.tensor([50.0, 90.0])
    source = transform_points(invert_similarity(similarity(scale, turn, x, y)), target[None])
    fit = estimate_similarity(source, target)
    assert bool(fit.valid)
    assert float(fit.residuals) < 1e-6
    torch.testing.assert_close(transform_points(fit.matrices, source), target[None], rtol=0, atol=1e-6)


@given(seed=seeds, faces=st.integers(0, 6), mirror=st.booleans())
def test_never_a_reflection(seed: int, faces: int, mirror: bool) -> None:
    source = noisy_faces(seed, faces)
    if mirror:
        source = source * torch.tensor([-1.0, 1.0])
    fit = estimate_similarity(source, TEMPLATE)
    linear = fit.matrices[:, :, :2]
    assert (torch.linalg.det(linear) > 0).all()
    torch.testing.assert_close(linear[:, 0, 0], linear[:, 1, 1])
    torch.testing.assert_close(linear[:, 0, 1], -linear[:, 1, 0])
    if mirror:
        assert (fit.problems == int(LandmarkProblem.MIRRORED)).all()
    else:
        assert fit.valid.all()


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_only_proportions_of_weights_matter_and_zero_ignores(seed: int, factor: float) -> None:
    source = noisy_faces(seed, 3)
    weights = 0.1 + torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    fit = estimate_similarity(source, TEMPLATE, weights=weights)
    scaled = estimate_similarity(source, TEMPLATE, weights=factor * weights)
    torch.testing.assert_close(scaled.matrices, fit.matrices, rtol=0, atol=1e-8)
    weights[3] = 0.0
    without = estimate_similarity(source[:, [0, 1, 2, 4]], TEMPLATE[[0, 1, 2, 4]], weights=weights[[0, 1, 2, 4]])
    source[:, 3] = float("nan")
    ignoring = estimate_similarity(source, TEMPLATE, weights=weights)
    torch.testing.assert_close(ignoring.matrices, without.matrices, rtol=0, atol=1e-8)


@given(seed=seeds)
def test_order_of_points_and_of_faces_does_not_matter(seed: int) -> None:
    source = noisy_faces(seed, 4)
    generator = torch.Generator().manual_seed(seed)
    points, faces = torch.randperm(5, generator=generator), torch.randperm(4, generator=generator)
    fit = estimate_similarity(source, TEMPLATE)
    shuffled = estimate_similarity(source[faces][:, points], TEMPLATE[points])
    torch.testing.assert_close(shuffled.matrices, fit.matrices[faces], rtol=0, atol=1e-8)


@given(seed=seeds, bad=st.integers(0, 4), kind=st.sampled_from(["nan", "inf", "coincident", "collinear", "mirrored"]))
def test_a_bad_face_does_not_disturb_its_neighbours(seed: int, bad: int, kind: str) -> None:
    good = noisy_faces(seed, 5).float()
    source = good.clone()
    if kind in ("nan", "inf"):
        source[bad, 2, 1] = float(kind)
    elif kind == "coincident":
        source[bad] = source[bad, :1]
    elif kind == "collinear":
        source[bad] = source[bad, :1] + torch.arange(5)[:, None] * torch.tensor([7.0, 3.0])
    else:
        source[bad] = source[bad, [1, 0, 2, 4, 3]]
    source.requires_grad_()
    fit = estimate_similarity(source, TEMPLATE)
    fit.matrices.square().sum().backward()
    names = {"nan": "NOT_FINITE", "inf": "NOT_FINITE"}
    assert int(fit.problems[bad]) == int(LandmarkProblem[names.get(kind, kind.upper())])
    assert torch.equal(fit.matrices[bad].detach(), torch.eye(2, 3))
    assert float(fit.residuals[bad]) == 0.0
    others = torch.arange(5) != bad
    assert fit.valid[others].all()
    torch.testing.assert_close(fit.matrices[others], estimate_similarity(good, TEMPLATE).matrices[others])
    assert source.grad is not None
    assert source.grad.isfinite().all()
    assert (source.grad[bad] == 0).all()
    assert (source.grad[others].flatten(1).abs().sum(1) > 0).all()


@given(seed=seeds)
def test_the_inverse_undoes(seed: int) -> None:
    matrices = estimate_similarity(noisy_faces(seed, 3), TEMPLATE).matrices
    points = 100 * torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    back = transform_points(invert_similarity(matrices), transform_points(matrices, points))
    torch.testing.assert_close(back, points, rtol=0, atol=1e-8)
    torch.testing.assert_close(invert_similarity(invert_similarity(matrices)), matrices, rtol=1e-9, atol=1e-9)


@given(seed=seeds, size=st.integers(8, 300), wide=st.integers(8, 300))
def test_templates_of_one_view_share_pixel_centres(seed: int, size: int, wide: int) -> None:
    square = FaceTemplate.arcface(size)
    twice = square.resized(2 * size)
    torch.testing.assert_close((twice.tensor() + 0.5) / 2 - 0.5, square.tensor(), rtol=0, atol=1e-9)
    # a wider crop has the same face in its middle
    other = FaceTemplate.arcface((size, wide))
    moved = square.tensor() + torch.tensor([(wide - size) / 2, 0.0])
    torch.testing.assert_close(other.tensor(), moved, rtol=0, atol=1e-9)
