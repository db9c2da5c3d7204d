"""A data set of labelled image files, wherever their bytes lie: what folders and record files share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from facemtl.data.broken_images import BrokenCount, BrokenImages, OnBroken
from facemtl.data.decoding import FaceDecoder
from facemtl.data.photographs import MOST_PIXELS, PhotographError
from facemtl.data.samples import FaceSample


@dataclass(frozen=True)
class FaceColumns:
    """Labels of all faces of a data set, one row a face."""

    identities: npt.NDArray[np.integer]
    """``(faces,)``; −1 is unknown."""
    ages: npt.NDArray[np.floating]
    """``(faces,)`` years; NaN is unknown."""
    genders: npt.NDArray[np.integer]
    """``(faces,)``, 1 male, 0 female; −1 is unknown."""


class EncodedFaces(Dataset[FaceSample], ABC):
    """Decodes the faces that a subclass finds; see :class:`facemtl.FaceDataset`."""

    def __init__(
        self,
        columns: FaceColumns,
        *,
        size: tuple[int, int],
        resize: bool,
        transform: Callable[[Tensor], Tensor] | None,
        on_broken: OnBroken,
        broken_limit: float,
        broken_report: str | Path | None,
        max_pixels: int,
    ) -> None:
        where = type(self).__name__
        if min(size) < 1:
            raise ValueError(f"{where}: 'size' must be a positive height and width, got {size}.")
        if not 1 <= max_pixels <= MOST_PIXELS:
            raise ValueError(f"{where}: 'max_pixels' must lie in [1, {MOST_PIXELS}], got {max_pixels}.")
        if len(columns.identities) == 0:
            raise ValueError(f"{where}: there must be at least one face, got none.")
        self.columns, self.size, self.transform = columns, (int(size[0]), int(size[1])), transform
        self._decoder = FaceDecoder(self.size, resize=resize, max_pixels=max_pixels)
        self._broken = BrokenImages(
            where,
            columns.ages,
            on_broken=on_broken,
            limit=broken_limit,
            report=Path(broken_report) if broken_report is not None else None,
        )

    @property
    def broken_count(self) -> BrokenCount:
        """Faces asked for and broken images met so far, in all workers of this process together."""
        return self._broken.count

    def __len__(self) -> int:
        return len(self.columns.identities)

    def __getitem__(self, index: int) -> FaceSample:
        """One face; ``DataLoader`` asks for a batch at once instead, through ``__getitems__``."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[FaceSample]:
        """Several faces, decoded into one buffer, which :func:`facemtl.collate_faces` need not copy."""
        wanted = [self._place(index) for index in indices]
        pixels = _empty_pixels((len(wanted), *self.size, 3))
        delivered = [self._read(index, row) for index, row in zip(wanted, pixels.numpy(), strict=True)]
        self._broken.asked(len(wanted))
        images: list[Tensor] = list(pixels.permute(0, 3, 1, 2).unbind(0))
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        labels = (column[delivered].tolist() for column in self._label_columns())
        return [FaceSample(*sample) for sample in zip(images, *labels, delivered, strict=True)]

    def name(self, index: int) -> str:
        """What messages call face ``index``: its file, or the number of its record."""
        return self._name(self._place(index))

    @abstractmethod
    def _data(self, index: int) -> bytes | memoryview:
        """The image file of face ``index``; raises :class:`PhotographError` if it cannot be had."""

    @abstractmethod
    def _name(self, index: int) -> str:
        """What messages call it."""

    def _read(self, index: int, row: npt.NDArray[np.uint8]) -> int:
        """Fill ``row`` with face ``index`` or a stand-in; gives the index of the face that it is."""
        if self._decoded(index, row):
            return index
        for stand_in in self._broken.stand_ins(index):
            if stand_in != index and self._decoded(stand_in, row):
                return stand_in
        raise self._broken.give_up(index, self._name(index))

    def _decoded(self, index: int, row: npt.NDArray[np.uint8]) -> bool:
        try:
            self._decoder.decode(self._data(index), row, name=self._name(index))
        except PhotographError as problem:
            self._broken.refuse(index, self._name(index), problem)
            return False
        return True

    def _label_columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        return self.columns.identities, self.columns.ages, self.columns.genders

    def _place(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: 'index' must lie in [0, {len(self)}), got {index}.")
        return int(index) % len(self)


def _empty_pixels(shape: tuple[int, ...]) -> Tensor:
    """Memory for a batch: in a worker process that which the main process shares, so that nothing is copied to it."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))  # as torch's own collation does
    return torch.empty(0, dtype=torch.uint8).set_(storage).reshape(shape)
