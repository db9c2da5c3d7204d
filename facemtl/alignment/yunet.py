"""YuNet as kornia has it: faces and landmarks of many photographs at once, on any device."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from facemtl.alignment.detection import Detections
from facemtl.alignment.detection_input import check_photographs, reduced_copy, restore_points
from facemtl.alignment.templates import LANDMARKS

# The coarsest grid has a cell for each 64 pixels; padding to whole cells looks for large faces up to the edge.
_CELL = 64

_kornia_lock = threading.Lock()


class YuNetDetector:
    """Faces and five landmarks by kornia's YuNet: a network of 85 thousand parameters, in batches, on a GPU if wanted.

    kornia decodes and suppresses; photographs are grouped by size, padded with black on the right and below, and
    turned to the BGR in [0, 255] that the weights were trained on (kornia 0.8 leaves that to the caller, 0.9 does it).
    Faces of 10 to 300 pixels are found, so large photographs are searched in a reduced copy.

    Args:
        weights: kornia's ``yunet_final.pth`` as a local file (or the same state dict as ``.safetensors``). Read with
            ``weights_only=True``, so it cannot run code. ``None`` lets kornia download it. The YuNet files of
            OpenCV's model zoo from 2023 on are another network.
        longest_side: Larger photographs are searched in a copy reduced to this many pixels; ``None`` searches
            them as they are. Landmarks and boxes are carried back.
        score_threshold: Less sure faces are dropped, in [0, 1).
        nms_threshold: Of faces that overlap by more than this (intersection over union), the surest stays, in (0, 1].
        top_k: Candidates that are compared with each other, in each photograph.
        batch_size: Photographs that go through the network at once.
        device: Where the network runs.

    Raises:
        FileNotFoundError: If ``weights`` is no file.
        ValueError: If it holds other weights, if kornia cannot download them, or if an argument is out of its range.

    Example:
        >>> import torch
        >>> detector = YuNetDetector("yunet_final.pth", device="cuda")  # doctest: +SKIP
        >>> found = detector.detect(torch.zeros(2, 3, 480, 640, dtype=torch.uint8))  # doctest: +SKIP

    References:
        Wu, Peng and Yu, YuNet: A Tiny Millisecond-level Face Detector (Machine Intelligence Research 2023).
    """

    landmark_order: tuple[str, ...] = LANDMARKS

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        longest_side: int | None = 480,
        score_threshold: float = 0.6,
        nms_threshold: float = 0.3,
        top_k: int = 1000,
        batch_size: int = 16,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= score_threshold < 1:
            raise ValueError(f"YuNetDetector: 'score_threshold' must lie in [0, 1), got {score_threshold}.")
        if not 0 < nms_threshold <= 1:
            raise ValueError(f"YuNetDetector: 'nms_threshold' must lie in (0, 1], got {nms_threshold}.")
        for name, value in (("longest_side", longest_side), ("top_k", top_k), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"YuNetDetector: '{name}' must be at least 1, got {value}.")
        self.longest_side = longest_side
        self.batch_size = batch_size
        self.device = torch.device(device)
        options = {"confidence_threshold": score_threshold, "nms_threshold": nms_threshold, "top_k": top_k}
        self._kornia = _build_kornia_detector(weights, options).to(self.device).eval()

    def detect(self, images: Tensor | Sequence[Tensor], /) -> Detections:
        """Find the faces.

        Args:
            images: RGB photographs, ``(images, 3, height, width)`` or a list of ``(3, height, width)`` of different
                sizes; uint8, or floats in [-1, 1].

        Returns:
            :class:`~facemtl.alignment.detection.Detections` on the device of the images.

        Raises:
            ShapeError: If an image has another shape.
            TypeError: If it is neither uint8 nor floating point.
            ValueError: If a float is not finite or not in [-1, 1].
        """
        photographs = check_photographs("YuNetDetector.detect", images)
        copies = [reduced_copy(image, self.longest_side) for image in photographs]
        tables = [torch.zeros(0, 15)] * len(photographs)
        for indices in self._batches(copies):
            pixels = torch.stack([_padded_bgr(copies[index].to(self.device)) for index in indices])
            for index, found in zip(indices, self._search(pixels), strict=True):
                points = restore_points(
                    # kornia counts from the left and upper edge of the first pixel, the scale of its anchors.
                    found[:, :14].double().unflatten(1, (7, 2)) - 0.5,
                    copy=copies[index],
                    image=photographs[index],
                )
                tables[index] = torch.cat((points.flatten(1), found[:, 14:]), 1).float()
        device = photographs[0].device if photographs else torch.device("cpu")
        image_index = torch.repeat_interleave(torch.tensor([len(table) for table in tables], dtype=torch.int64))
        table = torch.cat((torch.zeros(0, 15, device=device), *(table.to(device) for table in tables)))
        return Detections(table[:, :4], table[:, 14], table[:, 4:14].unflatten(1, (5, 2)), image_index.to(device))

    def _batches(self, copies: list[Tensor]) -> Iterator[list[int]]:
        """Indices of photographs that are equally large when padded, so many at once."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, copy in enumerate(copies):
            groups[_padded_size(copy)].append(index)
        for indices in groups.values():
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    @torch.no_grad()
    def _search(self, pixels: Tensor) -> list[Tensor]:
        """``(faces, 15)`` of each photograph: box, landmarks, score; surest first."""
        # Not kornia's forward: of its versions, some flip RGB to BGR there and some do not.
        outputs = self._kornia.model(pixels)
        return self._kornia.postprocess(outputs, pixels.shape[-2], pixels.shape[-1])


def _padded_size(image: Tensor) -> tuple[int, int]:
    height, width = image.shape[1:]
    return -(-height // _CELL) * _CELL, -(-width // _CELL) * _CELL


def _padded_bgr(image: Tensor) -> Tensor:
    """BGR floats in [0, 255], with black to the right and below."""
    pixels = image.float() if image.dtype == torch.uint8 else (image.float() + 1) * 127.5
    height, width = _padded_size(image)
    return F.pad(pixels.flip(0), (0, width - image.shape[2], 0, height - image.shape[1]))


def _build_kornia_detector(weights: str | os.PathLike[str] | None, options: dict[str, Any]) -> Any:
    from kornia.contrib import face_detection

    if weights is None:
        return _downloaded(face_detection.FaceDetector, options)
    state = _read(weights)
    # kornia 0.8 has the network under another name.
    name = "YuNet" if hasattr(face_detection, "YuNet") else "YuFaceDetectNet"
    network = getattr(face_detection, name)("test", pretrained=False)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"YuNetDetector: 'weights' must be kornia's yunet_final.pth, got {os.fspath(weights)!r}, which does not "
            f"fit its network: {str(error).splitlines()[1].strip()[:200]}"
        ) from error
    with _network_instead_of_download(face_detection, name, network):
        return face_detection.FaceDetector(**options)


def _downloaded(kornia_detector: Any, options: dict[str, Any]) -> Any:
    try:
        return kornia_detector(**options)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            "YuNetDetector: kornia could not download its weights. Pass yunet_final.pth as a local file in 'weights', "
            f"or use MTCNNDetector, whose weights come inside a package. ({error})"
        ) from error


@contextmanager
def _network_instead_of_download(module: Any, name: str, network: nn.Module) -> Iterator[None]:
    """Let kornia's constructor, which always downloads, take a network that is there already."""
    with _kornia_lock:
        original = getattr(module, name)
        setattr(module, name, lambda *_, **__: network)
        try:
            yield
        finally:
            setattr(module, name, original)


def _read(weights: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    path = os.fspath(weights)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"YuNetDetector: 'weights' must be a file, got {path!r}.")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes the readers raise
        raise ValueError(f"YuNetDetector: 'weights' must be a state dict, got {path!r}: {error}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"YuNetDetector: 'weights' must hold a state dict, got {type(state).__name__} in {path!r}.")
    return state
