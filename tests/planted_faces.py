"""Detectors for tests of files and processes; importable, so that worker processes can have them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from facemtl.alignment.detection import Detections
from facemtl.alignment.templates import LANDMARKS, FaceTemplate

CRASH, RAISE, HANG, NOTHING, TWO = 250, 240, 230, 220, 210
"""Reds of the first pixel that make the detector die, raise, take for ever, find none or two faces."""


class PlantedDetector:
    """Finds a face in the middle of each picture, unless the first pixel says otherwise."""

    landmark_order = LANDMARKS

    def __init__(self, device: str = "cpu", shift: float = 0.0) -> None:
        self.device, self.shift = device, shift

    def detect(self, images: Tensor | Sequence[Tensor], /) -> Detections:
        found = [self._find(image, index) for index, image in enumerate(images)]
        return Detections(*(torch.cat(columns) for columns in zip(*found, strict=True)))

    def _find(self, image: Tensor, index: int) -> Detections:
        order = int(image[0, 0, 0])
        if order == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        if order == HANG:
            time.sleep(600)
        if order == RAISE:
            raise RuntimeError("no such picture")
        faces = {NOTHING: 0, TWO: 2}.get(order, 1)
        points = FaceTemplate.arcface().tensor(dtype=torch.float32) * 0.6 + 8 + self.shift
        landmarks = torch.stack((points, points * 0.5 + 2))[:faces]
        boxes = torch.tensor([[10.0, 10.0, 75.0, 90.0], [5.0, 5.0, 40.0, 45.0]])[:faces]
        return Detections(boxes, torch.tensor([0.9, 0.6])[:faces], landmarks, torch.full((faces,), index))
