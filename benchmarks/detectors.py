"""How many real faces do the detectors find, how fast, and how well do they agree on where the landmarks are?

Distances are in eye distances, over all five landmarks of the most central face: between detectors, and between a
photograph and its mirror image (what a detector disagrees with itself). dlib's 68 points, when dlib-bin and
face_recognition_models are there, are a landmarker of another kind, started from MTCNN's box.

    python benchmarks/detectors.py --faces ../shared/faces [--yunet yunet_final.pth]
        [--opencv-yunet face_detection_yunet_2023mar.onnx] [--step 1]

kornia's YuNet needs its weights in a file; OpenCV's FaceDetectorYN with the file of 2023 is a later, different YuNet.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facemtl import Detections, FaceDetector, MTCNNDetector, YuNetDetector, images_without_faces, select_faces
from facemtl.alignment.templates import LANDMARKS

SWAP = [1, 0, 2, 4, 3]


class OpenCVYuNet:
    """OpenCV's FaceDetectorYN, as a detector of one's own would be written."""

    landmark_order = LANDMARKS  # OpenCV says "right eye" first and means the person's: the viewer's left

    def __init__(self, file: Path) -> None:
        import cv2

        self._detector = cv2.FaceDetectorYN.create(str(file), "", (320, 320), 0.6)

    def detect(self, images: list[Tensor], /) -> Detections:
        """Find the faces of one image after the other."""
        tables, index = [np.zeros((0, 15), np.float32)], []
        for number, image in enumerate(images):
            bgr = np.ascontiguousarray(image.flip(0).movedim(0, -1).numpy())
            self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
            faces = self._detector.detect(bgr)[1]
            if faces is not None:
                tables.append(faces)
                index += [number] * len(faces)
        table = torch.from_numpy(np.concatenate(tables))
        boxes = torch.cat((table[:, :2], table[:, :2] + table[:, 2:4]), 1)
        landmarks = table[:, 4:14].unflatten(1, (5, 2))
        return Detections(boxes - 0.5, table[:, 14], landmarks - 0.5, torch.tensor(index, dtype=torch.int64))


def read(folder: Path, step: int) -> list[Tensor]:
    paths = sorted(folder.rglob("*.jpg"))[::step]
    return [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).movedim(-1, 0) for path in paths]


def central_landmarks(detector: FaceDetector, images: list[Tensor]) -> tuple[dict[int, Tensor], Detections, float]:
    """The most central face's landmarks of each image, all detections, and milliseconds an image."""
    start = time.process_time()
    found = detector.detect(images)
    milliseconds = 1000 * (time.process_time() - start) / max(len(images), 1)
    kept = select_faces(found, [tuple(image.shape[1:]) for image in images], policy="most_central")
    return dict(zip(kept.image_index.tolist(), kept.landmarks, strict=True)), found, milliseconds


def mirror_image(detector: FaceDetector, images: list[Tensor]) -> dict[int, Tensor]:
    """Landmarks found in the mirror images, mirrored back."""
    faces = central_landmarks(detector, [image.flip(-1) for image in images])[0]
    back = {}
    for index, points in faces.items():
        back[index] = points[SWAP].clone()
        back[index][:, 0] = images[index].shape[-1] - 1 - back[index][:, 0]
    return back


def dlib_landmarks(images: list[Tensor], boxes: Detections) -> dict[int, Tensor]:
    """Five of dlib's 68 points, from MTCNN's boxes without the brow; nothing if dlib is not there."""
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None or importlib.util.find_spec("dlib") is None:
        return {}
    import dlib

    predictor: Any = dlib.shape_predictor(
        str(Path(package.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat")
    )
    faces = {}
    for index, box in zip(boxes.image_index.tolist(), boxes.boxes.tolist(), strict=True):
        left, top, right, bottom = (round(value) for value in (box[0], box[1] * 0.85 + box[3] * 0.15, box[2], box[3]))
        shape = predictor(images[index].movedim(0, -1).numpy().copy(), dlib.rectangle(left, top, right, bottom))
        points = torch.tensor([(shape.part(i).x, shape.part(i).y) for i in range(68)], dtype=torch.float32)
        eyes = points[36:42].mean(0), points[42:48].mean(0)
        faces[index] = torch.stack((*eyes, points[30], points[48], points[54]))
    return faces


def agreement(one: dict[int, Tensor], other: dict[int, Tensor]) -> str:
    """Median distance over all landmarks, and the median shift to the right, in eye distances."""
    both = sorted(one.keys() & other.keys())
    if not both:
        return "nothing to compare"
    eyes = torch.stack([(one[i][1] - one[i][0]).norm() for i in both])[:, None, None]
    apart = torch.stack([one[i] - other[i] for i in both]) / eyes
    return (
        f"median {apart.norm(dim=-1).median():.3f}, shift ({apart[..., 0].median():+.3f}, "
        f"{apart[..., 1].median():+.3f}), {len(both)} faces"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=Path(__file__).parents[2] / "shared" / "faces")
    parser.add_argument("--yunet", type=Path)
    parser.add_argument("--opencv-yunet", type=Path)
    parser.add_argument("--step", type=int, default=1, help="take every n-th photograph of the larger folders")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detectors: dict[str, Any] = {"MTCNN": MTCNNDetector()}
    if arguments.yunet is not None:
        detectors["kornia's YuNet"] = YuNetDetector(arguments.yunet)
    if arguments.opencv_yunet is not None:
        detectors["OpenCV's YuNet"] = OpenCVYuNet(arguments.opencv_yunet)
    for folder in ("lfw", "fairface", "portraits"):
        if not (arguments.faces / folder).is_dir():
            print(f"{folder}: skipped, not in {arguments.faces}")
            continue
        images = read(arguments.faces / folder, 1 if folder == "portraits" else arguments.step)
        faces = {}
        for name, detector in detectors.items():
            faces[name], found, milliseconds = central_landmarks(detector, images)
            missed = len(images_without_faces(found, len(images)))
            rate = 100 * (1 - missed / len(images))
            print(f"{folder}, {name}: {rate:.2f} % of {len(images)}, {missed} missed, {milliseconds:.1f} ms an image")
            print(f"    with its mirror image: {agreement(faces[name], mirror_image(detector, images))}")
        boxes = select_faces(
            detectors["MTCNN"].detect(images), [tuple(image.shape[1:]) for image in images], policy="most_central"
        )
        faces["dlib's 68 points"] = dlib_landmarks(images, boxes)
        names = list(faces)
        for row, name in enumerate(names):
            for other in names[row + 1 :]:
                print(f"    {name} with {other}: {agreement(faces[name], faces[other])}", flush=True)


if __name__ == "__main__":
    main()
