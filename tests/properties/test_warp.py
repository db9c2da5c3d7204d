from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facemtl._core.checks import value_checks
from facemtl.alignment.similarity import LandmarkProblem, invert_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner
from tests.photographs import planted, procedural_photograph

seeds = st.integers(0, 10**6)
backends = st.sampled_from(["torch", "auto"])
SMALL = FaceTemplate.arcface((14, 11))


def faces_of(seed: int, faces: int, side: int = 60, template: FaceTemplate = SMALL) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(faces, 4, generator=generator, dtype=torch.float64).tolist()
    landmarks = [planted(template, 0.5 + 4 * scale, 6 * turn, (side * x, side * y))[0] for scale, turn, x, y in draws]
    noise = torch.randn(faces, 5, 2, generator=generator, dtype=torch.float64) / 9
    return torch.stack(landmarks) + noise if faces else noise


def pixels_of(seed: int, images: int, height: int = 60, width: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (images, 3, height, width), generator=generator, dtype=torch.uint8)


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), seed=seeds, faces=st.integers(0, 3), backend=backends,
    antialias=st.booleans(), output=st.sampled_from(["model", "uint8"]), floats=st.booleans(),
)  # fmt: skip
def test_any_crop_size_and_number_of_faces(
    height: int, width: int, seed: int, faces: int, backend: Any, antialias: bool, output: Any, floats: bool
) -> None:
    template = FaceTemplate.arcface((height, width))
    images = pixels_of(seed, faces, 31, 40)
    aligner = FaceAligner(template, backend=backend, antialias=antialias, output=output)
    aligned = aligner(images / 127.5 - 1 if floats else images, faces_of(seed, faces, 35, template).float())
    assert aligned.crops.shape == (faces, 3, height, width)
    assert aligned.crops.dtype == (torch.uint8 if output == "uint8" else torch.float32)
    assert aligned.matrices.shape == (faces, 2, 3)
    assert aligned.crops.float().isfinite().all()
    if output == "model":
        assert (aligned.crops.abs() <= 1 + 1e-5).all()


@given(seed=seeds, backend=backends, antialias=st.booleans(), padding=st.sampled_from(["zeros", "border"]))
def test_batch_equals_loop_and_list(seed: int, backend: Any, antialias: bool, padding: Any) -> None:
    images, landmarks = pixels_of(seed, 3), faces_of(seed, 5)
    index = torch.tensor([2, 0, 2, 1, 2])
    aligner = FaceAligner(SMALL, backend=backend, antialias=antialias, padding=padding)
    together = aligner(images, landmarks, image_index=index)
    listed = aligner(list(images), landmarks, image_index=index)
    alone = [aligner(images[i][None], face[None]) for i, face in zip(index.tolist(), landmarks, strict=True)]
    for number, name in enumerate(together._fields):
        torch.testing.assert_close(listed[number], together[number], rtol=0, atol=1e-5, msg=name)
        joined = torch.cat([face[number] for face in alone])
        torch.testing.assert_close(joined, together[number], rtol=0, atol=1e-5, msg=name)


@given(seed=seeds, antialias=st.booleans(), layout=st.sampled_from(["channels_last", "strided", "flipped", "expanded"]))
def test_memory_layout_does_not_matter(seed: int, antialias: bool, layout: str) -> None:
    images, landmarks = pixels_of(seed, 2), faces_of(seed, 2)
    if layout == "channels_last":
        other = images.to(memory_format=torch.channels_last)
    elif layout == "strided":
        other = images.repeat_interleave(2, 3)[..., ::2]
    elif layout == "flipped":
        other = images.transpose(2, 3).contiguous().transpose(2, 3)
    else:
        images = images[:1].repeat(2, 1, 1, 1)
        other = images[:1].expand(2, -1, -1, -1)
    for backend in ("torch", "auto"):
        aligner = FaceAligner(SMALL, backend=backend, antialias=antialias)  # type: ignore[arg-type]
        torch.testing.assert_close(aligner(other, landmarks).crops, aligner(images, landmarks).crops, rtol=0, atol=1e-5)


@given(seed=seeds, scale=st.floats(0.7, 3), turn=st.floats(-3, 3), backend=backends)
def test_a_planted_face_comes_out_upright(seed: int, scale: float, turn: float, backend: Any) -> None:
    """A smooth face drawn into the photograph at its landmarks comes out where the template has them."""
    template = FaceTemplate.arcface(32)
    landmarks, matrix = planted(template, scale, turn, (75.2, 71.9))
    crop_x, crop_y = _crop_places(matrix, 150)
    image = torch.stack([torch.sin(0.2 * crop_x), torch.cos(0.15 * crop_y), torch.sin(0.1 * (crop_x + crop_y))])
    pixels = ((image + 1) * 127.5).round().to(torch.uint8)
    aligned = FaceAligner(template, antialias=False, backend=backend)(pixels[None], landmarks[None])
    torch.testing.assert_close(invert_similarity(aligned.matrices)[0], matrix, rtol=0, atol=1e-9)
    carried = transform_points(aligned.matrices, landmarks[None])[0]
    torch.testing.assert_close(carried, template.tensor(), rtol=0, atol=1e-9)
    x, y = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy")
    want = torch.stack([torch.sin(0.2 * x), torch.cos(0.15 * y), torch.sin(0.1 * (x + y))])
    torch.testing.assert_close(aligned.crops[0], want, rtol=0, atol=0.03)


def _crop_places(matrix: Tensor, side: int) -> tuple[Tensor, Tensor]:
    x, y = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="xy")
    points = torch.stack((x, y), -1).view(1, -1, 2).double()
    places = transform_points(invert_similarity(matrix[None]), points)
    crop_x, crop_y = places[0].T.reshape(2, side, side)
    return crop_x, crop_y


@given(seed=seeds, antialias=st.booleans(), backend=backends)
def test_a_flipped_photograph_gives_the_flipped_crop(seed: int, antialias: bool, backend: Any) -> None:
    points = ((4.0, 5.0), (9.0, 5.0), (6.5, 8.0), (4.5, 11.0), (8.5, 11.0))  # its own mirror image in 14 columns
    template = FaceTemplate(points, 15, 14)
    images, landmarks = pixels_of(seed, 2), faces_of(seed, 2, template=template)
    aligner = FaceAligner(template, antialias=antialias, backend=backend)
    crops = aligner(images, landmarks).crops
    mirrored = landmarks.clone()
    mirrored[..., 0] = 59 - mirrored[..., 0]
    flipped = aligner(images.flip(3), mirrored[:, [1, 0, 2, 4, 3]]).crops
    # halving starts at the photograph's left edge, whose 60 pixels divide by 4; OpenCV's rounding is not symmetric
    atol = 1e-4 if backend == "torch" else 2.01 / 255
    torch.testing.assert_close(flipped.flip(3), crops, rtol=0, atol=atol)


@given(
    seed=seeds,
    bad=st.integers(0, 3),
    kind=st.sampled_from(["nan", "inf", "coincident", "mirrored"]),
    floats=st.booleans(),
)
def test_a_bad_face_is_grey_and_leaves_the_others_alone(seed: int, bad: int, kind: str, floats: bool) -> None:
    images, landmarks = pixels_of(seed, 4), faces_of(seed, 4).float()
    pixels = (images / 127.5 - 1).requires_grad_() if floats else images
    aligner = FaceAligner(SMALL)
    want = aligner(pixels, landmarks).crops.detach()
    broken = landmarks.clone()
    if kind in ("nan", "inf"):
        broken[bad, 1, 0] = float(kind)
    elif kind == "coincident":
        broken[bad] = 17.0
    else:
        broken[bad] = broken[bad, [1, 0, 2, 4, 3]]
    broken.requires_grad_(floats)
    aligned = aligner(pixels, broken)
    others = torch.arange(4) != bad
    assert aligned.valid.tolist() == others.tolist()
    assert aligned.problems[bad] != LandmarkProblem.NONE
    assert (aligned.crops[bad] == 0).all()
    torch.testing.assert_close(aligned.crops[others].detach(), want[others], rtol=0, atol=1e-6)
    if floats:
        aligned.crops.square().sum().backward()
        assert broken.grad is not None
        assert broken.grad.isfinite().all()
        assert (broken.grad[bad] == 0).all()
        assert (pixels.grad[bad] == 0).all()
        assert pixels.grad[others].abs().flatten(1).sum(1).gt(0).all()
    as_uint8 = FaceAligner(SMALL, output="uint8")(images, broken.detach())
    assert (as_uint8.crops[bad] == 128).all()


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_tiny_and_far_images_are_defined(backend: Any, padding: Any, dtype: torch.dtype) -> None:
    for height, width in ((1, 1), (1, 9), (9, 1), (2, 2), (3, 5)):
        image = torch.full((1, 3, height, width), 200, dtype=torch.uint8)
        image = image if dtype == torch.uint8 else image / 127.5 - 1
        for scale in (0.1, 1.0, 3.7, 40.0, 1e4):
            for centre in ((0.0, 0.0), (-1e3, 2.0), (1e6, -1e6)):
                landmarks, _ = planted(SMALL, scale, 0.3, centre)
                for antialias in (False, True):
                    aligner = FaceAligner(SMALL, backend=backend, padding=padding, antialias=antialias)
                    aligned = aligner(image, landmarks[None])
                    assert aligned.crops.shape == (1, 3, 14, 11)
                    assert aligned.crops.isfinite().all()
                    if scale < 1e-5 * abs(centre[0]):
                        assert int(aligned.problems) == LandmarkProblem.COINCIDENT  # but for rounding
                        continue
                    assert bool(aligned.valid)
                    if padding == "border":
                        torch.testing.assert_close(
                            aligned.crops, torch.full_like(aligned.crops, 200 / 127.5 - 1), rtol=0, atol=1e-3
                        )
                    elif centre[0] == 1e6 and scale < 1e4:
                        assert (aligned.crops == -1).all()


def test_a_huge_photograph_is_not_copied() -> None:
    image = torch.zeros(1, dtype=torch.uint8).expand(3, 60_000, 60_000)  # 10.8 GB if it were
    landmarks, _ = planted(SMALL, 2.0, 0.0, (50_000.0, 40_000.0))
    for backend in ("torch", "auto"):
        aligned = FaceAligner(SMALL, backend=backend)([image], landmarks[None])  # type: ignore[arg-type]
        assert (aligned.crops == -1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_sampled_in_float32(dtype: torch.dtype) -> None:
    images, landmarks = (pixels_of(0, 2) / 127.5 - 1).to(dtype), faces_of(0, 2).float()
    want = FaceAligner(SMALL)(images.float(), landmarks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = FaceAligner(SMALL)(images, landmarks)
    for left, right in zip(got, want, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)
    halves = FaceAligner(SMALL)(images, landmarks.to(dtype))
    assert halves.matrices.dtype == torch.float32


@given(seed=seeds, padding=st.sampled_from(["zeros", "border"]))
def test_cv2_compat_stays_within_a_64th_of_a_pixel(seed: int, padding: Any) -> None:
    image = procedural_photograph(60, 60, seed % 50)[None]
    landmarks = faces_of(seed, 1)
    compat = FaceAligner(SMALL, cv2_compat=True, padding=padding)(image, landmarks)
    exact = FaceAligner(SMALL, antialias=False, padding=padding, backend="torch")(image, landmarks)
    steepest = max(float(image.float().diff(dim=axis).abs().max()) for axis in (2, 3))
    steepest = max(steepest, 255.0 if padding == "zeros" else 0.0)
    assert (compat.crops - exact.crops).abs().max() * 127.5 <= 2 * steepest / 64 + 0.51 + 1e-3


@pytest.mark.compiled
@pytest.mark.parametrize("antialias", [False, True])
def test_exports_with_any_number_of_images(antialias: bool) -> None:
    images, landmarks = pixels_of(0, 3) / 127.5 - 1, faces_of(0, 3).float()
    aligner = FaceAligner(SMALL, antialias=antialias)
    batch = torch.export.Dim("batch", min=1, max=64)
    dynamic = ({0: batch}, {0: batch})
    with value_checks("never"):
        program = torch.export.export(aligner, (images, landmarks), dynamic_shapes=dynamic).module()
    for faces in (1, 5):
        images, landmarks = pixels_of(faces, faces) / 127.5 - 1, faces_of(faces, faces).float()
        torch.testing.assert_close(
            program(images, landmarks).crops, aligner(images, landmarks).crops, rtol=0, atol=1e-4
        )


@pytest.mark.compiled
def test_compiled_gradients_equal_eager() -> None:
    images, landmarks = pixels_of(0, 2) / 127.5 - 1, faces_of(0, 3)
    index = torch.tensor([1, 0, 1])
    aligner = FaceAligner(SMALL)
    gradients = []
    for run in (aligner, torch.compile(aligner, fullgraph=True, backend="aot_eager")):
        inputs = images.clone().requires_grad_(), landmarks.clone().requires_grad_()
        crops = run(*inputs, image_index=index).crops
        (crops * torch.linspace(0, 1, crops.numel()).view_as(crops)).sum().backward()
        gradients.append([value.grad for value in inputs])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)
