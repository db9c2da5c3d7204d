"""Images and labels of a manifest as they go into records: whole files, each of which was decoded."""

from __future__ import annotations

import os

import numpy as np
import torch

from facemtl.data.datasets import LabelledFiles
from facemtl.data.decoding import FaceDecoder
from facemtl.data.encode import encode_image
from facemtl.data.photographs import MOST_BYTES, MOST_PIXELS, PhotographError, decode_photograph, read_file


class PackedImages:
    """Images and labels of a manifest as they go into records.

    Args:
        manifest: Names and labels of the faces.
        size: Height and width that images are scaled to; None for that of the first, which all must have.
        quality: Of the JPEGs of scaled images.
        vectors: Whether labels are (identity, age, gender), or the identity alone.
    """

    def __init__(self, manifest: LabelledFiles, size: tuple[int, int] | None, quality: int, *, vectors: bool) -> None:
        self.manifest, self._quality, self._vectors, self._scaled = manifest, quality, vectors, size is not None
        self._folder = os.path.join(manifest.root, "")
        self._size = None if size is None else (int(size[0]), int(size[1]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all images; known once there was one."""
        if self._size is None:
            raise ValueError("pack_records: there must be at least one image, got none.")
        return self._size

    def path(self, row: int) -> str:
        """The file of a face."""
        return self._folder + self.manifest.filenames[row]

    def labels(self, row: int) -> int | tuple[int, float, int]:
        """What stands in the record's header."""
        identity = int(self.manifest.identities[row])
        if not self._vectors:
            return identity
        return identity, float(self.manifest.ages[row]), int(self.manifest.genders[row])

    def image(self, row: int) -> bytes:
        """The image file of a face, which was decoded; scaled if it must be.

        Raises:
            PhotographError: If it is broken, or has another size and is not to be scaled.
        """
        path = self.path(row)
        data = read_file(path, MOST_BYTES)
        if self._size is None:
            height, width = decode_photograph(data, path=path).shape[1:]
            self._size = height, width
        pixels = np.empty((*self._size, 3), np.uint8)
        try:
            FaceDecoder(self._size, resize=False, max_pixels=MOST_PIXELS).decode(data, pixels, name=path)
        except PhotographError as problem:
            if problem.reason != "another size" or not self._scaled:
                raise
        else:
            return data
        FaceDecoder(self._size, resize=True, max_pixels=MOST_PIXELS).decode(data, pixels, name=path)
        return encode_image(torch.from_numpy(pixels).permute(2, 0, 1), "jpg", quality=self._quality, small=False)
