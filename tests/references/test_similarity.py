from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform

from facemtl.alignment.similarity import LandmarkProblem, estimate_similarity, invert_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate


def scikit_image(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """scikit-image's least-squares similarity; ``from_estimate`` came with 0.26, ``estimate`` goes with it."""
    if hasattr(SimilarityTransform, "from_estimate"):
        return SimilarityTransform.from_estimate(source, target).params[:2]
    transform = SimilarityTransform()
    assert transform.estimate(source, target)
    return transform.params[:2]


@pytest.mark.parametrize("points", [2, 3, 4, 5, 9, 20])
def test_equals_scikit_image(points: int) -> None:
    random = np.random.default_rng(points)
    target = random.uniform(0, 112, (200, points, 2))
    turn, scale, shift = (
        random.uniform(-3, 3, 200),
        random.uniform(0.2, 10, 200),
        random.uniform(-500, 500, (200, 1, 2)),
    )
    matrix = scale[:, None, None] * np.stack(
        (np.stack((np.cos(turn), -np.sin(turn)), -1), np.stack((np.sin(turn), np.cos(turn)), -1)), 1
    )
    noise = random.normal(size=target.shape) * scale[:, None, None] * 3
    source = np.einsum("fij,fpj->fpi", matrix, target) + shift + noise
    fit = estimate_similarity(torch.from_numpy(source), torch.from_numpy(target))
    compared = 0
    for face in range(200):
        if fit.valid[face]:
            want = scikit_image(source[face], target[face])
            np.testing.assert_allclose(fit.matrices[face].numpy(), want, rtol=0, atol=1e-10)
            compared += 1
    assert compared > 150


def test_residual_is_the_root_mean_square_distance() -> None:
    random = np.random.default_rng(0)
    template = FaceTemplate.arcface().tensor().numpy()
    source = 3 * template + 20 + random.normal(size=(8, 5, 2)) * 4
    fit = estimate_similarity(torch.from_numpy(source), torch.from_numpy(template))
    for face in range(8):
        carried = source[face] @ fit.matrices[face, :, :2].numpy().T + fit.matrices[face, :, 2].numpy()
        want = np.sqrt(((carried - template) ** 2).sum(1).mean())
        assert float(fit.residuals[face]) == pytest.approx(want, abs=1e-12)


def test_weights_are_repeated_points() -> None:
    random = np.random.default_rng(1)
    template = FaceTemplate.arcface().tensor().numpy()
    source = 2 * template + random.normal(size=(5, 2)) * 3
    counts = np.array([3, 1, 2, 4, 1])
    fit = estimate_similarity(
        torch.from_numpy(source)[None], torch.from_numpy(template), weights=torch.from_numpy(counts / 7.0)
    )
    want = scikit_image(source.repeat(counts, 0), template.repeat(counts, 0))
    np.testing.assert_allclose(fit.matrices[0].numpy(), want, rtol=0, atol=1e-10)


def test_gradients_are_right_beside_bad_faces_and_ignored_points() -> None:
    template = FaceTemplate.arcface().tensor()
    generator = torch.Generator().manual_seed(0)
    source = (1.7 * template + 9 + torch.randn(4, 5, 2, generator=generator)).double()
    bad = source.clone()
    bad[1, 2, 0] = float("nan")
    bad[2] = 5.0
    weights = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0], dtype=torch.float64)

    def matrices(points: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
        broken = torch.where(torch.arange(4)[:, None, None] == 1, bad, points)
        broken = torch.where(torch.arange(4)[:, None, None] == 2, bad, broken)
        return estimate_similarity(
            broken, template, weights=torch.cat((trust, trust.new_zeros(1)))[[0, 1, 2, 4, 3]]
        ).matrices

    assert torch.autograd.gradcheck(matrices, (source.requires_grad_(), weights[[0, 1, 2, 4]].requires_grad_()))

    ignored = source.detach().clone()
    ignored[:, 3] = float("nan")
    ignored.requires_grad_()
    fit = estimate_similarity(ignored, template, weights=weights)
    fit.matrices.sum().backward()
    assert fit.valid.all()
    assert ignored.grad is not None
    assert ignored.grad.isfinite().all()
    assert (ignored.grad[:, 3] == 0).all()
    assert (ignored.grad[:, 0] != 0).all()


def test_inverse_is_the_matrix_inverse() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    x, y = 50 * torch.randn(2, 9, generator=generator, dtype=torch.float64)
    matrices = torch.stack((a, -b, x, b, a, y), 1).view(9, 2, 3)
    square = torch.cat((matrices, torch.tensor([[[0.0, 0.0, 1.0]]]).expand(9, 1, 3)), 1)
    torch.testing.assert_close(invert_similarity(matrices), torch.linalg.inv(square)[:, :2], rtol=1e-10, atol=1e-10)


def test_points_are_carried_as_by_a_matrix_product() -> None:
    generator = torch.Generator().manual_seed(4)
    matrices = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    points = torch.randn(6, 7, 2, generator=generator, dtype=torch.float64)
    homogeneous = torch.cat((points, torch.ones(6, 7, 1)), 2)
    torch.testing.assert_close(transform_points(matrices, points), homogeneous @ matrices.mT, rtol=0, atol=1e-12)


def test_arcface_template_is_the_published_one() -> None:
    # insightface's python-package, face_align.py: the five points at 112, and its 128 has them eight pixels right
    published = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    np.testing.assert_array_equal(FaceTemplate.arcface().tensor().numpy(), published)
    np.testing.assert_allclose(FaceTemplate.insightface(224).tensor().numpy(), published * 2)
    np.testing.assert_allclose(FaceTemplate.insightface(256).tensor().numpy(), (published + np.array([8, 0])) * 2)
    # SphereFace's 112 x 96 points
    narrow = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
    np.testing.assert_allclose(FaceTemplate.arcface((112, 96)).tensor().numpy(), narrow)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.gpu
def test_cuda_fits_the_same() -> None:
    template = FaceTemplate.arcface().tensor()
    source = (2 * template + torch.randn(64, 5, 2)).float()
    source[3] = float("nan")
    here, there = estimate_similarity(source, template), estimate_similarity(source.cuda(), template.cuda())
    for left, right in zip(there, here, strict=True):
        torch.testing.assert_close(left.cpu(), right)
    assert here.problems[3] == LandmarkProblem.NOT_FINITE
