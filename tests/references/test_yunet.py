"""What stands around kornia's YuNet, tested with a network planted in its place, and its weights' way in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from facemtl import FaceDetector, YuNetDetector, detect_faces, images_without_faces
from facemtl.alignment.detection import swapped_landmarks
from facemtl.alignment.templates import LANDMARKS, FaceTemplate
from tests.planted_yunet import PlantedYuNet, dotted_photograph


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of kornia's network, saved as its own file is."""
    from kornia.contrib import face_detection

    torch.manual_seed(5)
    network = getattr(face_detection, "YuNet", None) or face_detection.YuFaceDetectNet
    path = tmp_path_factory.mktemp("yunet") / "yunet_final.pth"
    torch.save(network("test", pretrained=False).state_dict(), path)
    return path


@pytest.fixture
def planted(weights_file: Path) -> Any:
    """Make a YuNetDetector whose network sees coloured dots."""

    def make(**options: Any) -> YuNetDetector:
        detector = YuNetDetector(weights_file, **options)
        detector._kornia.model = PlantedYuNet()
        return detector

    return make


def face_at(x: float, y: float, scale: float) -> Tensor:
    return (FaceTemplate.arcface().tensor() - 56) * scale + torch.tensor((x, y), dtype=torch.float64)


@pytest.mark.parametrize("size", [(200, 200), (128, 192), (161, 259), (300, 130)])
def test_yunet_gives_planted_landmarks_in_the_photographs_pixels(size: tuple[int, int], planted: Any) -> None:
    landmarks = face_at(size[1] * 0.45, size[0] * 0.55, 1.0)
    detector = planted()
    found = detector.detect(dotted_photograph(*size, landmarks)[None])
    torch.testing.assert_close(found.landmarks[0].double(), landmarks, atol=0.15, rtol=0)
    assert found.scores.tolist() == pytest.approx([0.9], abs=1e-4)
    centre = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    torch.testing.assert_close(centre.double(), landmarks.mean(0), atol=0.15, rtol=0)
    assert all(side % 64 == 0 for side in detector._kornia.model.shapes[0][-2:])


def test_yunet_carries_landmarks_back_from_a_reduced_copy(planted: Any) -> None:
    landmarks = face_at(500, 420, 6.0)
    found = planted(longest_side=320).detect(dotted_photograph(900, 1100, landmarks, radius=18)[None])
    torch.testing.assert_close(found.landmarks[0].double(), landmarks, atol=0.6, rtol=0)


def test_yunet_batches_photographs_of_the_same_padded_size(planted: Any) -> None:
    faces = [face_at(70 + 5 * i, 80, 0.9) for i in range(5)]
    sizes = [(150, 180), (300, 200), (160, 190), (150, 180), (170, 150)]
    images: list[Tensor] = [dotted_photograph(*size, face) for size, face in zip(sizes, faces, strict=True)]
    images[1] = torch.zeros_like(images[1])
    detector = planted(batch_size=3)
    found = detector.detect(images)
    assert found.image_index.tolist() == [0, 2, 3, 4]
    expected = torch.stack([faces[i] for i in (0, 2, 3, 4)])
    torch.testing.assert_close(found.landmarks.double(), expected, atol=0.15, rtol=0)
    assert sorted(shape[0] for shape in detector._kornia.model.shapes) == [1, 1, 3]


def test_yunet_sees_floats_as_uint8(planted: Any) -> None:
    image = dotted_photograph(160, 160, face_at(80, 80, 1.0))
    floats = image.float() / 127.5 - 1
    one, other = planted().detect(image[None]), planted().detect(floats[None])
    torch.testing.assert_close(one.landmarks, other.landmarks, rtol=0, atol=1e-3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_yunet_runs_kornias_network_with_the_weights_of_the_file(
    suffix: str, weights_file: Path, tmp_path: Path
) -> None:
    from kornia.contrib import face_detection

    state = torch.load(weights_file, weights_only=True)
    path = weights_file
    if suffix == ".safetensors":
        path = tmp_path / "yunet.safetensors"
        save_file(state, path)
    network = (getattr(face_detection, "YuNet", None) or face_detection.YuFaceDetectNet)("test", pretrained=False)
    network.load_state_dict(state)
    image = torch.randint(256, (1, 3, 64, 128), dtype=torch.uint8)
    detector = YuNetDetector(path, score_threshold=0, nms_threshold=1.0, top_k=10_000)
    found = detector.detect(image)
    with torch.no_grad():
        expected = network.eval()(image.flip(1).float())
    scores = (expected["conf"][0, :, 1] * expected["iou"][0, :, 0].clamp(0, 1)).sqrt()
    wanted = scores[scores > 0].sort(descending=True).values[:750]
    torch.testing.assert_close(found.scores, wanted)


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 900), (2000, 3)])
def test_yunet_sees_nothing_in_black_pictures_of_any_size(
    size: tuple[int, int], planted: Any, weights_file: Path
) -> None:
    image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    assert len(planted().detect(image).scores) == 0
    found = YuNetDetector(weights_file, score_threshold=0).detect(image)  # the network itself takes such sizes
    assert found.landmarks.shape[1:] == (5, 2)


def test_no_images_have_no_faces(planted: Any) -> None:
    for images in ([], torch.zeros(0, 3, 20, 20, dtype=torch.uint8)):
        found = planted().detect(images)
        assert [tuple(column.shape) for column in found] == [(0, 4), (0,), (0, 5, 2), (0,)]
        assert images_without_faces(found, 0) == []


def test_yunet_travels_to_other_processes(weights_file: Path) -> None:
    detector = YuNetDetector(weights_file, score_threshold=0)
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(pickle.loads(pickle.dumps(detector)).detect(image).boxes, detector.detect(image).boxes)


def test_yunet_meets_the_protocol_and_states_the_house_order(planted: Any) -> None:
    detector = planted()
    assert isinstance(detector, FaceDetector)
    assert detector.landmark_order == LANDMARKS
    found = detect_faces(detector, dotted_photograph(160, 160, face_at(80, 80, 1.0))[None])
    assert len(found.scores) == 1
    assert not swapped_landmarks(found.landmarks).any()
