"""Faces in folders, as a data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from facemtl.data.broken_images import OnBroken
from facemtl.data.encoded_faces import EncodedFaces, FaceColumns
from facemtl.data.photographs import MOST_BYTES, read_file


@runtime_checkable
class Filenames(Protocol):
    """Names of files below the root of a manifest, by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


@runtime_checkable
class LabelledFiles(Protocol):
    """What a data set asks of a manifest; :class:`facemtl.data.manifest.Manifest` is one."""

    @property
    def root(self) -> Path:
        """Folder that names are relative to."""

    @property
    def filenames(self) -> Filenames:
        """Names, one a face."""

    @property
    def identities(self) -> npt.NDArray[np.int64]:
        """``(faces,)``; −1 is unknown."""

    @property
    def ages(self) -> npt.NDArray[np.float32]:
        """``(faces,)`` years; NaN is unknown."""

    @property
    def genders(self) -> npt.NDArray[np.int8]:
        """``(faces,)``, 1 male, 0 female; −1 is unknown."""


class FaceDataset(EncodedFaces):
    """Labelled faces from image files: a map-style ``Dataset`` of :class:`facemtl.FaceSample`.

    Made for ``DataLoader(dataset, batch_sampler=..., collate_fn=facemtl.collate_faces)``: a batch is decoded into one
    buffer of bytes and nothing else happens to a face on its way. Flips and the scaling to [-1, 1] are for the whole
    batch, on the device (:func:`facemtl.random_flip`, :func:`facemtl.to_model_input`). torchvision's ``ImageFolder``
    goes through Pillow and a float tensor for each image, at four times the cost and four times the bytes to move.

    A file is read as :func:`facemtl.read_photograph` does: any format, upright, RGB, damaged files refused. With
    ``on_broken="skip"`` another face stands in for one that is broken: always the same one, of the same age group, with
    its own labels and its own ``index``; it is logged (by the logger ``facemtl.data``, once a file and process) and
    counted over all workers. The run fails when more than ``broken_limit`` of the faces asked for were broken (of the
    first 10,000: their tenth of a percent), or when ten stand-ins in a row are broken too.

    Args:
        manifest: Names and labels of the faces; see :func:`facemtl.read_manifest`.
        size: Height and width that all images have, in pixels.
        resize: Scale images of another size to ``size`` (antialiased; the aspect is not kept). Otherwise such an image
            counts as broken.
        transform: Applied to each ``(3, height, width)`` uint8 tensor, as one of ``torchvision.transforms.v2``; give
            what works on a batch to the batch instead.
        on_broken: ``"raise"``, or ``"skip"`` to let another face stand in.
        broken_limit: Share of broken faces beyond which the run fails.
        broken_report: File to which a line of JSON is appended for each broken file.
        max_pixels: Most pixels to decode of an image.

    Raises:
        ValueError: If an option is out of its range, or there is no face.
        BrokenImageError: On access, if an image is broken and ``on_broken`` is ``"raise"``, or too many are.
        IndexError: On access, if there is no such face.

    Example:
        >>> import pathlib, tempfile
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (112, 112), "teal").save(root / "0.jpg")
        >>> manifest = SimpleNamespace(  # as read_manifest gives it
        ...     root=root, filenames=["0.jpg"], identities=np.zeros(1, np.int64), ages=np.full(1, 31, np.float32),
        ...     genders=np.ones(1, np.int8))
        >>> sample = FaceDataset(manifest)[0]
        >>> tuple(sample.image.shape), sample.identity, sample.age
        ((3, 112, 112), 0, 31.0)
    """

    def __init__(
        self,
        manifest: LabelledFiles,
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
            FaceColumns(manifest.identities, manifest.ages, manifest.genders),
            size=size,
            resize=resize,
            transform=transform,
            on_broken=on_broken,
            broken_limit=broken_limit,
            broken_report=broken_report,
            max_pixels=max_pixels,
        )
        self.manifest = manifest
        self._folder = os.path.join(manifest.root, "")

    def _data(self, index: int) -> bytes:
        return read_file(self._name(index), MOST_BYTES)

    def _name(self, index: int) -> str:
        return self._folder + self.manifest.filenames[index]
