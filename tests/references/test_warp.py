from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facemtl.alignment.opencv_warp import opencv_major
from facemtl.alignment.similarity import invert_similarity
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from tests.conftest import SHARED
from tests.photographs import area_reference, planted, procedural_photograph, psnr, scipy_bilinear

TEMPLATE = FaceTemplate.arcface()
SMALL = FaceTemplate.arcface((20, 17))
SIZE = (112, 112)


def crop_to_photograph(faces: Any) -> Tensor:
    return invert_similarity(faces.matrices.double())


@pytest.fixture
def eager_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of compiled code and of GPUs, in eager mode on the CPU."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


WAYS = pytest.mark.parametrize("at_once", [False, True], ids=["regions", "at once"])


def choose_way(at_once: bool, request: pytest.FixtureRequest) -> None:
    if at_once:
        request.getfixturevalue("eager_at_once")


@WAYS
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(("side", "scale"), [(250, 1.1), (1024, 3.0), (3000, 7.7), (200, 2.4)])
def test_bilinear_equals_scipy(
    side: int, scale: float, padding: Any, at_once: bool, request: pytest.FixtureRequest
) -> None:
    choose_way(at_once, request)
    generator = torch.Generator().manual_seed(side)
    image = 2 * torch.rand(3, side, side + 5, generator=generator) - 1
    landmarks, _ = planted(TEMPLATE, scale, 0.3, (side / 2 + 0.3, side / 2 - 0.4))
    aligner = FaceAligner(antialias=False, padding=padding)
    faces = aligner(image[None], landmarks.float()[None])
    want = scipy_bilinear(image, crop_to_photograph(faces)[0], SIZE, border=padding == "border")
    error = np.abs(faces.crops[0].numpy() - want).max() / 2  # in [0, 1] floats
    assert error <= 1e-6


@pytest.mark.parametrize("layout", ["planes", "pixels"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_bilinear_equals_opencv_to_one_level(padding: Any, layout: str) -> None:
    cv2 = pytest.importorskip("cv2")
    if opencv_major() < 5:
        pytest.skip("OpenCV 4 works in steps of 1/32 pixel; cv2_compat is compared with it below")
    image = torch.randint(256, (3, 400, 380), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    if layout == "pixels":
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    edge = cv2.BORDER_CONSTANT if padding == "zeros" else cv2.BORDER_REPLICATE
    array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    for scale, turn in ((0.6, 1.0), (1.3, -0.2), (2.9, 0.4), (5.0, 3.0)):
        landmarks, _ = planted(TEMPLATE, scale, turn, (190.3, 201.9))
        for backend in ("torch", "opencv"):
            aligner = FaceAligner(antialias=False, padding=padding, output="uint8", backend=backend)
            faces = aligner([image], landmarks[None])
            want = cv2.warpAffine(array, faces.matrices[0].numpy(), (112, 112), flags=cv2.INTER_LINEAR, borderMode=edge)
            difference = np.abs(faces.crops[0].permute(1, 2, 0).numpy().astype(int) - want)
            assert difference.max() <= 1


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_every_way_gives_the_same(antialias: bool, padding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV, regions and all at once, for faces inside, across the edge of and outside the photograph."""
    scales = [0.7, 1.1, 2.0, 3.3, 5.4, 5.6, 9.0, 13.0, 30.0, 4.0, 3.0, 1.5]
    places = [(150.2, 130.7)] * 9 + [(0.0, 250.0), (-500.0, 90.0), (5000.0, 9000.0)]
    landmarks = torch.stack([planted(SMALL, s, s, place)[0] for s, place in zip(scales, places, strict=True)])
    image = procedural_photograph(271, 303, 5)
    index = torch.zeros(len(scales), dtype=torch.int64)
    options: dict[str, Any] = {"antialias": antialias, "padding": padding}

    def align(backend: Any) -> Tensor:
        return FaceAligner(SMALL, backend=backend, **options)(image[None], landmarks, image_index=index).crops

    regions, at_best = align("torch"), align("auto")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(regions, align("torch"), rtol=0, atol=1e-4)
    torch.testing.assert_close(at_best, regions, rtol=0, atol=1.02 * 2 / 255)


def quality(image: Tensor, scale: float, turn: float) -> tuple[float, float]:
    """DB of every scale's crop against the mean of its areas, by torch and by the best backend."""
    landmarks, matrix = planted(TEMPLATE, scale, turn, (image.shape[2] / 2 + 0.3, image.shape[1] / 2 + 0.4))
    want = area_reference(image, matrix, SIZE)
    results = []
    for backend in ("torch", "auto"):
        aligner = FaceAligner(padding="border", backend=backend, output="uint8")
        crop = aligner(image[None], landmarks[None]).crops[0]
        results.append(psnr(crop.numpy().astype(float), want))
    return results[0], results[1]


@pytest.mark.parametrize("turn", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("scale", [2.0, 2.7, 4.0, 5.45, 5.55, 8.0, 10.95, 12.0])
def test_antialiased_crops_are_means_of_areas(scale: float, turn: float) -> None:
    side = int(115 * scale * 1.1)
    assert min(quality(procedural_photograph(side, side, int(10 * scale)), scale, turn)) >= 45


@pytest.mark.slow
def test_antialiased_crops_of_real_portraits() -> None:
    photographs = sorted((SHARED / "faces" / "portraits").glob("*.jpg"))
    if not photographs:
        pytest.skip("the portraits are not on this machine")
    from PIL import Image

    lowest = 99.0
    for path in photographs:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for scale in (2.0, 2.75, 3.5, 5.4, 5.6, 8.0, 11.0, 12.0):
            larger = max(1.0, 130 * scale / min(image.size))  # the crop lies inside
            resized = image.resize([round(n * larger) for n in image.size], Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
            lowest = min(lowest, *quality(pixels, scale, 0.15))
    assert lowest >= 45


@pytest.mark.parametrize("scale", [0.3, 0.99, 1.0])
def test_nothing_is_filtered_where_nothing_is_shrunk(scale: float) -> None:
    image = torch.rand(1, 3, 150, 150, dtype=torch.float64)
    landmarks, _ = planted(TEMPLATE, scale, 0.3, (70, 80))
    plain = FaceAligner(antialias=False)(image, landmarks[None])
    filtered = FaceAligner()(image, landmarks[None])
    torch.testing.assert_close(filtered.crops, plain.crops, rtol=0, atol=1e-9)


@WAYS
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(("antialias", "scale"), [(False, 1.3), (True, 1.15), (True, 3.1), (True, 6.3)])
def test_gradients_through_similarity_and_warp(
    antialias: bool, scale: float, padding: Any, at_once: bool, request: pytest.FixtureRequest
) -> None:
    choose_way(at_once, request)
    template = FaceTemplate.arcface((3, 3))
    generator = torch.Generator().manual_seed(2)
    images = 2 * torch.rand(1, 3, 11, 13, generator=generator, dtype=torch.float64) - 1
    centres = ((5.13, 6.41), (1.7, 9.2))
    landmarks = torch.stack([planted(template, scale, 0.37, centre)[0] for centre in centres])
    landmarks = landmarks + 0.05 * torch.randn(2, 5, 2, generator=generator)
    aligner = FaceAligner(template, antialias=antialias, padding=padding)

    def crops(images: Tensor, landmarks: Tensor) -> Tensor:
        return aligner(images, landmarks, image_index=torch.tensor([0, 0])).crops

    assert torch.autograd.gradcheck(crops, (images.requires_grad_(), landmarks.requires_grad_()), atol=1e-6)


# `opencv4_crops.json` was made by OpenCV 4.10.0 and, equally, by 4.14.0: warpAffine of `steps()` with `_MATRIX`.
_MATRIX = np.array([[0.83, -0.31, 4.6], [0.31, 0.83, -2.3]])


def steps() -> np.ndarray:
    y, x = np.mgrid[0:23, 0:29]
    return np.stack(((x * 37 + y * 91) % 256, (x * y * 5) % 256, 255 * ((x // 3 + y // 2) % 2)), -1).astype(np.uint8)


def compat_crop(
    image: np.ndarray, matrix: np.ndarray, template: FaceTemplate, padding: Any, **options: Any
) -> np.ndarray:
    """The crop that a planted ``matrix`` (photograph to crop) gives."""
    target = template.tensor()
    linear = torch.from_numpy(matrix[:, :2])
    landmarks = torch.linalg.solve(linear, (target - torch.from_numpy(matrix[:, 2])).T).T
    aligner = FaceAligner(template, cv2_compat=True, padding=padding, output="uint8", **options)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    return aligner(pixels[None], landmarks[None]).crops[0].permute(1, 2, 0).numpy()


def compat_template() -> FaceTemplate:
    return FaceTemplate(((2.0, 3.0), (9.0, 2.5), (5.0, 8.0)), 10, 12)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_cv2_compat_equals_stored_crops_of_opencv_4(padding: Any) -> None:
    table = json.loads((Path(__file__).parent / "opencv4_crops.json").read_text())
    got = compat_crop(steps(), _MATRIX, compat_template(), padding, backend="torch")
    np.testing.assert_array_equal(got, np.array(table[padding], dtype=np.uint8))


_SCRIPT = """
import sys, json, numpy as np, cv2
assert cv2.__version__.startswith("4."), cv2.__version__
with np.load(sys.argv[1]) as data:
    edges = {"zeros": cv2.BORDER_CONSTANT, "border": cv2.BORDER_REPLICATE}
    crops = {f"{p}{i}": cv2.warpAffine(data["image"], m, (112, 112), flags=cv2.INTER_LINEAR, borderMode=e)
             for i, m in enumerate(data["matrices"]) for p, e in edges.items()}
np.savez(sys.argv[2], **crops)
"""


def test_cv2_compat_equals_a_running_opencv_4(tmp_path: Path) -> None:
    """Bit for bit, where there is an OpenCV 4: the one installed, or a folder named by FACEMTL_OPENCV4."""
    import os

    folder = os.environ.get("FACEMTL_OPENCV4", "")
    if opencv_major() != 4 and not folder:
        pytest.skip("no OpenCV 4 here; set FACEMTL_OPENCV4 to a folder made by pip install --target")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, 500, 430), dtype=torch.uint8, generator=generator)
    scales = (0.4, 1.0, 1.7, 3.3, 6.0)
    landmarks = torch.stack([planted(TEMPLATE, s, 0.9 * s, (200 + 9 * s, 260 - 30 * s))[0] for s in scales])
    index = torch.zeros(len(scales), dtype=torch.int64)
    crops = {}
    for padding in ("zeros", "border"):
        for backend in ("torch", "auto"):
            aligner = FaceAligner(cv2_compat=True, padding=padding, output="uint8", backend=backend)
            crops[padding, backend] = aligner(image[None], landmarks, image_index=index)
    matrices = crops["zeros", "torch"].matrices.numpy()
    np.savez(tmp_path / "in.npz", image=image.permute(1, 2, 0).numpy(), matrices=matrices)
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    with np.load(tmp_path / "out.npz") as want:
        for (padding, backend), faces in crops.items():
            for number, crop in enumerate(faces.crops):
                np.testing.assert_array_equal(
                    crop.permute(1, 2, 0).numpy(), want[f"{padding}{number}"], err_msg=f"{backend} {padding}{number}"
                )


def test_equals_kornia() -> None:
    """kornia's differentiable warp, which wants one float image for each face."""
    kornia = pytest.importorskip("kornia.geometry.transform")
    images = 2 * torch.rand(3, 3, 90, 80, dtype=torch.float64) - 1
    landmarks = torch.stack([planted(SMALL, s, s, (40, 43))[0] for s in (0.8, 1.5, 2.5)])
    faces = FaceAligner(SMALL, antialias=False)(images, landmarks)
    want = kornia.warp_affine(images + 1, faces.matrices, (20, 17), align_corners=True) - 1
    torch.testing.assert_close(faces.crops, want, rtol=0, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_cuda_gives_the_same(antialias: bool, dtype: torch.dtype) -> None:
    images = torch.stack([procedural_photograph(300, 320, seed) for seed in range(4)])
    if dtype.is_floating_point:
        images = images / 127.5 - 1
    scales = (0.7, 1.6, 2.9, 6.1)
    landmarks = torch.stack([planted(TEMPLATE, s, 0.2, (150, 140))[0] for s in scales]).float()
    landmarks[2, 0, 0] = float("nan")
    aligner = FaceAligner(antialias=antialias, backend="torch")
    here, there = aligner(images, landmarks), aligner(images.cuda(), landmarks.cuda())
    for left, right in zip(there, here, strict=True):
        torch.testing.assert_close(left.cpu(), right, rtol=1e-5, atol=1e-4)
