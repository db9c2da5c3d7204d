from __future__ import annotations

from typing import Any

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.alignment import crop_sampling
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner

TEMPLATE = FaceTemplate.arcface((14, 12))
IMAGES = torch.zeros(2, 3, 20, 20, dtype=torch.uint8)
LANDMARKS = (TEMPLATE.tensor() + 2).expand(2, 5, 2)


@pytest.mark.parametrize("name", ["padding", "output", "invalid", "backend"])
def test_options_are_one_of_their_values(name: str) -> None:
    with pytest.raises(ValueError, match=f"FaceAligner: '{name}' must be one of .*, got 'odd'"):
        FaceAligner(**{name: "odd"})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 20, 20), r"\(images, 3, height, width\), got \(3, 20, 20\). Add an axis with images.unsqueeze"),
        ((2, 20, 20, 3), r"got \(2, 20, 20, 3\). Move channels first"),
        ((2, 1, 20, 20), r"got \(2, 1, 20, 20\). Repeat the gray channel"),
        ((2, 4, 20, 20), r"got \(2, 4, 20, 20\). Drop alpha"),
        ((2, 3, 0, 20), r"got \(2, 3, 0, 20\)"),
    ],
)
def test_images_are_rgb_with_channels_first(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        FaceAligner(TEMPLATE)(torch.zeros(shape, dtype=torch.uint8), LANDMARKS)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (2, 10),
            r"'landmarks' must have shape \(faces, 5, 2\), got \(2, 10\). Call landmarks.unflatten\(1, \(5, 2\)\)",
        ),
        ((5, 2), r"got \(5, 2\). Add an axis with landmarks.unsqueeze\(0\)"),
        ((2, 4, 2), r"as the template has 5 points, got \(2, 4, 2\)"),
        ((3, 5, 2), r"one face for each of the 2 images, got shape \(3, 5, 2\). Say with image_index"),
    ],
)
def test_landmarks_are_the_templates(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        FaceAligner(TEMPLATE)(IMAGES, torch.zeros(shape))


def test_dtypes() -> None:
    with pytest.raises(TypeError, match="'images' must have a floating-point dtype, got torch.int32. Pass uint8"):
        FaceAligner(TEMPLATE)(IMAGES.int(), LANDMARKS)
    with pytest.raises(TypeError, match="'landmarks' must have a floating-point dtype, got torch.int64"):
        FaceAligner(TEMPLATE)(IMAGES, LANDMARKS.long())
    with pytest.raises(TypeError, match="one dtype, got torch.uint8 at index 0 and torch.float32 at index 1"):
        FaceAligner(TEMPLATE)([IMAGES[0], IMAGES[1].float()], LANDMARKS)
    with pytest.raises(TypeError, match=r"'images' must be uint8 with cv2_compat=True, got torch.float32"):
        FaceAligner(TEMPLATE, cv2_compat=True)(IMAGES.float(), LANDMARKS)


def test_float_images_are_in_range() -> None:
    images = IMAGES.float()
    images[1, 2, 3, 4] = 200.0
    message = r"lie in \[-1, 1\]; got 200.0 at index \(1, 2, 3, 4\). Scale pixels with facemtl.to_model_input"
    with pytest.raises(ValueError, match=message):
        FaceAligner(TEMPLATE)(images, LANDMARKS)
    images[1, 2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match=r"got nan at index \(1, 2, 3, 4\)"):
        FaceAligner(TEMPLATE)(images, LANDMARKS)
    with pytest.raises(ValueError, match=r"'images\[1\]' must be finite and lie in \[-1, 1\]; got nan"):
        FaceAligner(TEMPLATE)(list(images), LANDMARKS)


def test_listed_images_are_tensors_of_three_channels() -> None:
    with pytest.raises(TypeError, match=r"'images\[1\]' must be a tensor, got ndarray"):
        FaceAligner(TEMPLATE)([IMAGES[0], IMAGES[1].numpy()], LANDMARKS)  # type: ignore[list-item]
    with pytest.raises(ShapeError, match=r"'images\[0\]' must have shape \(3, height, width\), got \(20, 20, 3\)"):
        FaceAligner(TEMPLATE)([image.movedim(0, -1) for image in IMAGES], LANDMARKS)


def test_image_index_names_images() -> None:
    aligner = FaceAligner(TEMPLATE)
    with pytest.raises(ValueError, match=r"'image_index' must lie in \[0, images\) = \[0, 2\); got 2 at index 1"):
        aligner(IMAGES, LANDMARKS, image_index=torch.tensor([0, 2]))
    with pytest.raises(ShapeError, match=r"must have batch = 2 on axis 0, got shape \(3,\)"):
        aligner(IMAGES, LANDMARKS, image_index=torch.tensor([0, 1, 1]))
    with pytest.raises(TypeError, match="int64 or int32, got torch.float32"):
        aligner(IMAGES, LANDMARKS, image_index=torch.zeros(2))


def test_devices_agree() -> None:
    with pytest.raises(
        ValueError, match=r"'landmarks' must be on meta, where the images are, got cpu. Call landmarks.to"
    ):
        FaceAligner(TEMPLATE)(IMAGES.to("meta"), LANDMARKS)


def test_bad_landmarks_are_named_in_strict_mode() -> None:
    landmarks = LANDMARKS.clone()
    landmarks[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="face 1: landmarks are not finite. Drop these faces"):
        FaceAligner(TEMPLATE, invalid="error")(IMAGES, landmarks)
    assert FaceAligner(TEMPLATE)(IMAGES, landmarks).valid.tolist() == [True, False]


def test_opencv_is_refused_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = FaceAligner(TEMPLATE, backend="opencv")
    with pytest.raises(ValueError, match="backend 'opencv' needs uint8 images on a CPU, .* got torch.float32 on cpu"):
        aligner(IMAGES.float(), LANDMARKS)
    with pytest.raises(ValueError, match="landmarks without gradient"):
        aligner(IMAGES, LANDMARKS.clone().requires_grad_())
    monkeypatch.setattr(crop_sampling, "opencv_major", lambda: 0)
    with pytest.raises(
        ImportError, match=r'needs OpenCV 5 for backend .opencv.: pip install "opencv-python-headless==5'
    ):
        aligner(IMAGES, LANDMARKS)
    with pytest.raises(ImportError, match="needs OpenCV 4"):
        FaceAligner(TEMPLATE, backend="opencv", cv2_compat=True)(IMAGES, LANDMARKS)


@pytest.mark.parametrize("major", [0, 4])
def test_without_opencv_5_torch_does_it(major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("OpenCV was called")

    monkeypatch.setattr(crop_sampling, "opencv_major", lambda: major)
    monkeypatch.setattr(crop_sampling, "warp_regions", refuse)
    assert FaceAligner(TEMPLATE)(IMAGES, LANDMARKS).crops.shape == (2, 3, 14, 12)
