"""Do recognisers that know nothing of facemtl verify people as well on our crops as on their own alignment?

People of Labeled Faces in the Wild, pairs of the same and of different people, drawn with a seed. Each recogniser sees
each photograph twice: cropped by its own detector, landmarks and alignment, and by ``MTCNNDetector`` and
``FaceAligner``. dlib's ResNet takes crops of its own kind, so our template for it is where MTCNN finds the landmarks in
dlib's crops of people that are in no pair; SFace takes the ArcFace template.

    python benchmarks/verify_crops.py --faces ../shared/faces [--pairs 6000] [--sface FILE --yunet FILE]

dlib needs dlib-bin and face_recognition_models; SFace needs onnxruntime, the OpenCV zoo's
face_recognition_sface_2021dec.onnx and face_detection_yunet_2023mar.onnx.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facemtl import Detections, FaceAligner, FaceTemplate, MTCNNDetector, select_faces

CALIBRATION_PEOPLE = 60
FOLDS = 10


class Recogniser(Protocol):
    """A network for faces with an alignment of its own; photographs and crops are ``(height, width, 3)`` RGB uint8."""

    def crop(self, photograph: np.ndarray) -> np.ndarray | None:
        """Crop the most central face; None if there is none."""

    def embed(self, crop: np.ndarray) -> np.ndarray:
        """Return the feature; the same person's are near each other."""


class Verification(NamedTuple):
    """How well distances tell whether two photographs show the same person."""

    accuracy: float
    """Mean over ten folds, each at the threshold that is best on the other nine."""
    deviation: float
    area: float
    """Area under the ROC curve."""


class Dlib:
    """dlib's ResNet: frontal detector, five-point predictor, 150-pixel chips, Euclidean distance."""

    def __init__(self) -> None:
        import dlib

        # The package's own module wants pkg_resources, which is gone: find its files without importing it.
        package = importlib.util.find_spec("face_recognition_models")
        if package is None or package.origin is None:
            raise ImportError("face_recognition_models")
        models = Path(package.origin).parent / "models"
        self._dlib = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def crop(self, photograph: np.ndarray) -> np.ndarray | None:
        """Crop the face nearest the middle."""
        faces = self._detector(photograph, 1)
        if not faces:
            return None
        height, width = photograph.shape[:2]
        face = min(faces, key=lambda box: np.hypot(box.center().x - width / 2, box.center().y - height / 2))
        return np.asarray(self._dlib.get_face_chip(photograph, self._points(photograph, face), size=150))

    def embed(self, crop: np.ndarray) -> np.ndarray:
        """Return 128 numbers."""
        return np.asarray(self._network.compute_face_descriptor(np.ascontiguousarray(crop)))


class SFace:
    """SFace by the OpenCV zoo: YuNet and ``FaceRecognizerSF.alignCrop``, 112-pixel crops, cosine."""

    def __init__(self, network: Path, detector: Path) -> None:
        import cv2
        import onnxruntime

        self._cv2 = cv2
        self._detector = cv2.FaceDetectorYN.create(str(detector), "", (250, 250), 0.6)
        self._aligner = cv2.FaceRecognizerSF.create(str(network), "")
        # Not OpenCV 5's engine, which has been seen to compute other networks wrongly.
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self._network = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])

    def crop(self, photograph: np.ndarray) -> np.ndarray | None:
        """Crop the face nearest the middle."""
        bgr = np.ascontiguousarray(photograph[..., ::-1])
        height, width = bgr.shape[:2]
        self._detector.setInputSize((width, height))
        faces = self._detector.detect(bgr)[1]
        if faces is None:
            return None
        centre = faces[:, :2] + faces[:, 2:4] / 2
        face = faces[np.hypot(*(centre - (width / 2, height / 2)).T).argmin()]
        return self._aligner.alignCrop(bgr, face)[..., ::-1]

    def embed(self, crop: np.ndarray) -> np.ndarray:
        """Return 128 numbers of length 1."""
        pixels = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32)
        feature = self._network.run(None, {self._network.get_inputs()[0].name: pixels})[0][0]
        return feature / np.linalg.norm(feature)


def read_people(faces: Path) -> tuple[list[Path], np.ndarray]:
    """The photographs, and which person each shows."""
    lines = [line.split() for line in (faces / "lfw" / "labels.txt").read_text().splitlines() if line.strip()]
    return [faces / "lfw" / line[1] for line in lines], np.array([int(line[0]) for line in lines])


def read_photograph(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def draw_pairs(people: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``(count, 2)`` indices of photographs, half of them of the same person, and which half; no pair twice."""
    random = np.random.default_rng(seed)
    first, second = np.triu_indices(len(people), 1)
    same = people[first] == people[second]
    half = min(count // 2, int(same.sum()))
    rows = np.concatenate([random.choice(np.flatnonzero(same == kind), half, replace=False) for kind in (True, False)])
    random.shuffle(rows)
    return np.stack((first[rows], second[rows]), 1), same[rows]


def verify(distances: np.ndarray, same: np.ndarray) -> Verification:
    """Accuracy over folds, and the area under the ROC curve."""
    folds = np.arange(len(same)) % FOLDS
    accuracies = []
    for fold in range(FOLDS):
        threshold = best_threshold(distances[folds != fold], same[folds != fold])
        accuracies.append(np.mean((distances[folds == fold] <= threshold) == same[folds == fold]))
    return Verification(float(np.mean(accuracies)), float(np.std(accuracies)), area_under_curve(distances, same))


def best_threshold(distances: np.ndarray, same: np.ndarray) -> float:
    order = distances.argsort(kind="stable")
    right = np.cumsum(np.where(same[order], 1, -1))  # what calling the nearest k pairs the same gains over calling none
    return float(distances[order][right.argmax()])


def area_under_curve(distances: np.ndarray, same: np.ndarray) -> float:
    """The share of (same, different) couples of pairs that stand in the right order; ties count half."""
    different = np.sort(distances[~same])
    below = np.searchsorted(different, distances[same], side="left")
    upto = np.searchsorted(different, distances[same], side="right")
    return float(1 - (below + upto).mean() / 2 / len(different))


def interval(distances: tuple[np.ndarray, np.ndarray], same: np.ndarray, *, rounds: int = 500) -> tuple[float, float]:
    """95 % interval of the difference between two areas, over resampled pairs."""
    random = np.random.default_rng(0)
    differences = []
    for _ in range(rounds):
        rows = random.integers(len(same), size=len(same))
        one, other = (area_under_curve(side[rows], same[rows]) for side in distances)
        differences.append(one - other)
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)


def find_central_faces(photographs: list[np.ndarray]) -> Detections:
    images = [torch.from_numpy(photograph).movedim(-1, 0) for photograph in photographs]
    sizes = [photograph.shape[:2] for photograph in photographs]
    return select_faces(MTCNNDetector().detect(images), sizes, policy="most_central")


def template_of(recogniser: Recogniser, photographs: list[np.ndarray]) -> FaceTemplate:
    """Where MTCNN finds the landmarks in the recogniser's own crops, on average."""
    crops = [crop for photograph in photographs if (crop := recogniser.crop(photograph)) is not None]
    mean = find_central_faces(crops).landmarks.double().mean(0)
    return FaceTemplate(tuple((x, y) for x, y in mean.tolist()), *crops[0].shape[:2])


def crop_with_facemtl(photographs: list[np.ndarray], template: FaceTemplate) -> list[np.ndarray | None]:
    found = find_central_faces(photographs)
    aligner = FaceAligner(template, output="uint8")
    crops: list[np.ndarray | None] = [None] * len(photographs)
    for row, index in enumerate(found.image_index.tolist()):
        image = torch.from_numpy(photographs[index]).movedim(-1, 0)[None]
        aligned = aligner(image, found.landmarks[row : row + 1])
        if bool(aligned.valid[0]):
            crops[index] = to_array(aligned.crops[0])
    return crops


def to_array(crop: Tensor) -> np.ndarray:
    return np.ascontiguousarray(crop.movedim(0, -1).numpy())


def compare_alignments(
    recogniser: Recogniser,
    faces: Path,
    *,
    pairs: int,
    template: FaceTemplate | None = None,
    calibration_people: int = CALIBRATION_PEOPLE,
    most_people: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Verify the same pairs on the recogniser's own crops and on ours."""
    paths, people = read_people(faces)
    if template is None:
        calibration = [read_photograph(path) for path in np.array(paths)[people < calibration_people]]
        template = template_of(recogniser, calibration)
    last = people.max() if most_people is None else calibration_people + most_people - 1
    kept = np.flatnonzero((people >= calibration_people) & (people <= last))
    couples, same = draw_pairs(people[kept], pairs, seed)
    used, couples = np.unique(couples, return_inverse=True)
    couples = couples.reshape(-1, 2)
    photographs = [read_photograph(paths[kept[index]]) for index in used]
    crops = {
        "own": [recogniser.crop(photograph) for photograph in photographs],
        "ours": crop_with_facemtl(photographs, template),
    }
    missed = {side: sum(crop is None for crop in found) for side, found in crops.items()}
    both = np.array([one is not None and other is not None for one, other in zip(*crops.values(), strict=True)])
    rows = both[couples].all(1)
    couples, same = couples[rows], same[rows]
    distances = {}
    for side, found in crops.items():
        features = {index: recogniser.embed(found[index]) for index in np.unique(couples)}  # type: ignore[arg-type]
        distances[side] = np.array([np.linalg.norm(features[one] - features[other]) for one, other in couples])
    return {
        "photographs": len(photographs),
        "pairs": len(same),
        "missed": missed,
        "own": verify(distances["own"], same),
        "ours": verify(distances["ours"], same),
        "difference": interval((distances["ours"], distances["own"]), same),
        "template": template,
    }


def report(name: str, build: Callable[[], Recogniser], faces: Path, **options: Any) -> None:
    try:
        recogniser = build()
    except ImportError as error:
        print(f"{name}: skipped, {error} is missing")
        return
    start = time.perf_counter()
    result = compare_alignments(recogniser, faces, **options)
    print(
        f"\n{name}: {result['photographs']} photographs, {result['pairs']} pairs, {time.perf_counter() - start:.0f} s"
    )
    print("| alignment | no face in | accuracy (10 folds) | area under ROC |\n|---|---|---|---|")
    for side in ("own", "ours"):
        scores = result[side]
        accuracy = f"{scores.accuracy:.4f} ± {scores.deviation:.4f}"
        print(f"| {side} | {result['missed'][side]} | {accuracy} | {scores.area:.5f} |")
    low, high = result["difference"]
    print(f"area, ours less own: 95 % interval [{low:+.5f}, {high:+.5f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=Path(__file__).parents[2] / "shared" / "faces")
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--sface", type=Path, help="face_recognition_sface_2021dec.onnx")
    parser.add_argument("--yunet", type=Path, help="face_detection_yunet_2023mar.onnx")
    arguments = parser.parse_args()
    if not (arguments.faces / "lfw" / "labels.txt").is_file():
        print(f"skipped: there are no photographs in {arguments.faces}")
        return
    torch.set_num_threads(1)
    report("dlib", Dlib, arguments.faces, pairs=arguments.pairs)
    if arguments.sface is None or arguments.yunet is None:
        print("SFace: skipped, pass --sface and --yunet")
        return
    template = FaceTemplate.arcface()
    files = (arguments.sface, arguments.yunet)
    report("SFace", lambda: SFace(*files), arguments.faces, pairs=arguments.pairs, template=template)


if __name__ == "__main__":
    main()
