"""Faces in a record file, as a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from facemtl.data.broken_images import OnBroken
from facemtl.data.encoded_faces import EncodedFaces, FaceColumns


@runtime_checkable
class LabelledRecords(Protocol):
    """What a data set asks of records: labels of all faces, and the image file of one."""

    @property
    def identities(self) -> npt.NDArray[np.int64]:
        """``(faces,)``; −1 is unknown."""

    @property
    def ages(self) -> npt.NDArray[np.float32]:
        """``(faces,)`` years; NaN is unknown."""

    @property
    def genders(self) -> npt.NDArray[np.int8]:
        """``(faces,)``, 1 male, 0 female; −1 is unknown."""

    def payload(self, index: int, /) -> bytes | memoryview:
        """Bytes of the image file of a face; a view into a memory map is not copied."""


@runtime_checkable
class NamedRecords(Protocol):
    """Records that say what messages shall call them."""

    def name(self, index: int, /) -> str:
        """What messages call a face."""


class RecordDataset(EncodedFaces):
    """Labelled faces out of records: as :class:`facemtl.FaceDataset`, of which it has all the options and habits.

    One large file instead of millions of small ones: no name is looked up and nothing is opened for a face.

    Args:
        records: Labels and image files.
        size: Height and width that all images have, in pixels.
        resize: Scale images of another size to ``size``. Otherwise such an image counts as broken.
        transform: Applied to each ``(3, height, width)`` uint8 tensor.
        on_broken: ``"raise"``, or ``"skip"`` to let another face stand in.
        broken_limit: Share of broken faces beyond which the run fails.
        broken_report: File to which a line of JSON is appended for each broken record.
        max_pixels: Most pixels to decode of an image.

    Raises:
        ValueError: If an option is out of its range, or there is no face.
        BrokenImageError: On access, if an image is broken and ``on_broken`` is ``"raise"``, or too many are.
        IndexError: On access, if there is no such face.
    """

    def __init__(
        self,
        records: LabelledRecords,
        *,
        size: tuple[int, int] = (112, 112),
        resize: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
        on_broken: OnBroken = "raise",
        broken_limit: float = 0.001,
        broken_report: str | Path | None = None,
        max_pixels: int = 100_000_000,
    ) -> None:
        super().__init__(
            FaceColumns(records.identities, records.ages, records.genders),
            size=size,
            resize=resize,
            transform=transform,
            on_broken=on_broken,
            broken_limit=broken_limit,
            broken_report=broken_report,
            max_pixels=max_pixels,
        )
        self.records = records

    def _data(self, index: int) -> bytes | memoryview:
        return self.records.payload(index)

    def _name(self, index: int) -> str:
        return self.records.name(index) if isinstance(self.records, NamedRecords) else f"record {index}"
