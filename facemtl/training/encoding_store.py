"""Encodings of all faces, computed once: while the encoder is frozen, it need not see a source face twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_indices, shape_text
from facemtl._core.pixels import to_model_input
from facemtl.data.samples import FaceSample, collate_faces
from facemtl.networks.mtlface import EncodedFaces, MTLFace
from facemtl.training.steps import encode_sources

_LEVELS = 3  # of the encoder's levels the generator reads the last three


@runtime_checkable
class CountedFaces(Protocol):
    """What is asked of a data set; :class:`facemtl.FaceDataset` and all others here are such."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int], /) -> list[FaceSample]: ...


class EncodingsDoNotFitError(ValueError):
    """The encodings of all faces need more memory than they may take."""


class EncodingStore:
    """Encodings of all faces of a data set, as they are and mirrored: what each step of the synthesis starts from.

    For the phase in which the encoder is frozen. What :func:`~facemtl.training.steps.encode_sources` would give for a
    batch is looked up instead: the same mathematics, equal up to rounding. The store is filled when it is built, in
    batches of consecutive faces of one size, so that its values depend on the weights, the faces and ``batch_size``
    alone: on one machine a run that resumes, and each process of it, has the same bits.

    It costs two encodings of each face, and saves one for each source of a step: it pays from the second epoch on. At
    112×112 pixels and width 64 a face takes 3.2 MB in float32, half of that under bfloat16 autocast, at width 16
    0.8 MB. Each process keeps all faces, as any of them may fall to it.

    Args:
        recogniser: The model, or its :func:`~facemtl.training.frozen.frozen_recogniser`. It is left as it was. When its
            weights change, the store is of no use any more.
        dataset: Gives the same image whenever it is asked for a face, so no random transform. Where an image is broken,
            its stand-in is what is stored.
        limit_bytes: Most bytes that the store may take.
        batch_size: Faces in one forward pass, at least 1.
        device: Where the encodings lie, and where :meth:`encodings` gives them.

    Attributes:
        bytes: Size of the store.

    Raises:
        EncodingsDoNotFitError: If the encodings do not fit in ``limit_bytes``.
        ValueError: If there is no face, or ``batch_size`` is not positive.

    Note:
        Build it under the autocast of the run, if it has one: the dtype stored is that of the encoder's output.

    Example:
        >>> import torch
        >>> from facemtl.data.bundled import bundled_faces
        >>> from facemtl.data.datasets import FaceDataset
        >>> few = FaceDataset(bundled_faces().manifest.select(range(6)))
        >>> model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=16)
        >>> store = EncodingStore(model, few, limit_bytes=10**7, batch_size=3)
        >>> sources = store.encodings(torch.tensor([5, 0]), torch.tensor([False, True]))
        >>> sources.identity.shape, len(sources.levels), store.bytes
        (torch.Size([2, 32, 7, 7]), 3, 1204224)
    """

    def __init__(
        self,
        recogniser: MTLFace,
        dataset: CountedFaces,
        *,
        limit_bytes: int,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        faces = len(dataset)
        if batch_size < 1:
            raise ValueError(f"EncodingStore: 'batch_size' must be at least 1, got {batch_size}.")
        if faces < 1:
            raise ValueError("EncodingStore: 'dataset' must hold at least one face, got none.")
        self.device, self._faces = torch.device(device), faces
        batch_size = min(batch_size, faces)
        maps = _maps_of(recogniser, dataset, 0, batch_size)
        # Twice the first face: each is stored as it is and mirrored.
        self.bytes = 2 * faces * sum(value[0].numel() * value.element_size() for value in maps[0])
        if self.bytes > limit_bytes:
            raise EncodingsDoNotFitError(
                f"EncodingStore: 'limit_bytes' must be at least {self.bytes:,}, which the encodings of {faces:,} faces "
                f"and their mirror images need, got {limit_bytes:,}. Allow as much, or encode the sources in each step."
            )
        self._stored = [_StoredMaps(value, 2 * faces, self.device) for value in maps[0]]
        for first in range(0, faces, batch_size):
            if first:
                # The last batch is not shorter: it begins earlier, and computes some of its faces once more.
                first = min(first, faces - batch_size)
                maps = _maps_of(recogniser, dataset, first, batch_size)
            for mirrored, values in enumerate(maps):
                for stored, value in zip(self._stored, values, strict=True):
                    stored.put(mirrored * faces + first, value)

    def __len__(self) -> int:
        return self._faces

    def encodings(self, indices: Tensor, flipped: Tensor) -> EncodedFaces:
        """Encodings of some faces, mirrored where that is wanted.

        Args:
            indices: ``(batch,)`` places in the data set, as ``batch.indices`` has them.
            flipped: ``(batch,)`` bool, whether the face is mirrored: what
                ``facemtl.data.transforms.draw_flips`` gives for the generator of ``random_flip``.

        Returns:
            :class:`~facemtl.networks.mtlface.EncodedFaces` with the encoder's last three levels, without gradients.

        Raises:
            ShapeError: If shapes are others.
            TypeError: If ``indices`` are not integers or ``flipped`` is not bool.
            ValueError: If there is no such face (on CPU; see :func:`facemtl.value_checks`).
        """
        where = "EncodingStore.encodings"
        check_indices(where, "indices", indices, batch=indices.numel(), limit=self._faces, limit_name="len(dataset)")
        if flipped.shape != indices.shape:
            raise ShapeError(
                f"{where}: 'flipped' must have shape (batch,) = ({len(indices)},), got {shape_text(flipped)}."
            )
        if flipped.dtype != torch.bool:
            raise TypeError(f"{where}: 'flipped' must have dtype bool, got {flipped.dtype}. Call flipped.bool().")
        places = indices.to(self.device, non_blocking=True).long()
        rows = places + self._faces * flipped.to(self.device, non_blocking=True)
        identity, age, *levels = (stored.take(rows) for stored in self._stored)
        return EncodedFaces(identity, age, tuple(levels))


class _StoredMaps:
    """One map of every face, in the memory layout that the encoder gives it.

    Args:
        example: Maps of some faces.
        rows: Maps to store.
        device: Where.
    """

    def __init__(self, example: Tensor, rows: int, device: torch.device) -> None:
        self._channels_last = not example.is_contiguous() and example.movedim(1, -1).is_contiguous()
        self._rows = torch.empty((rows, *self._laid_out(example).shape[1:]), dtype=example.dtype, device=device)

    def put(self, first: int, maps: Tensor) -> None:
        self._rows[first : first + len(maps)] = self._laid_out(maps)

    def take(self, rows: Tensor) -> Tensor:
        maps = self._rows.index_select(0, rows)
        return maps.movedim(-1, 1) if self._channels_last else maps

    def _laid_out(self, maps: Tensor) -> Tensor:
        return maps.movedim(1, -1) if self._channels_last else maps


def _maps_of(
    recogniser: MTLFace, dataset: CountedFaces, first: int, count: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Maps of consecutive faces, and of their mirror images."""
    images = collate_faces(dataset.__getitems__(range(first, first + count))).images
    parameter = next(recogniser.parameters(), torch.empty(0))
    inputs = to_model_input(images.to(parameter.device), dtype=parameter.dtype)
    if inputs.is_contiguous(memory_format=torch.channels_last):
        inputs = inputs.contiguous()  # as decoded faces lie; the weights' layout decides about what comes out
    plain, mirrored = (encode_sources(recogniser, pixels) for pixels in (inputs, inputs.flip(-1)))
    return _read_by_generator(plain), _read_by_generator(mirrored)


def _read_by_generator(faces: EncodedFaces) -> tuple[Tensor, ...]:
    return faces.identity, faces.age, *faces.levels[-_LEVELS:]
