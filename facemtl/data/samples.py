"""What a data set gives: one labelled face, and a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, shape_text


class FaceSample(NamedTuple):
    """One labelled face.

    Example:
        >>> import torch
        >>> FaceSample(torch.zeros(3, 112, 112, dtype=torch.uint8), identity=4, age=31.0, gender=1, index=0).identity
        4
    """

    image: Tensor
    """``(3, height, width)`` uint8 RGB."""
    identity: int
    """0 to the number of identities − 1; −1 where nobody said."""
    age: float
    """Years in [0, 100]; NaN where nobody said."""
    gender: int
    """1 male, 0 female; −1 where nobody said."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a sample
    """Place in the data set of the face that is delivered, also where it stands in for a broken image."""


class FaceBatch(NamedTuple):
    """A batch of labelled faces, as :func:`collate_faces` makes it.

    ``DataLoader(pin_memory=True)`` pins its tensors, as those of any named tuple.
    """

    images: Tensor
    """``(batch, 3, height, width)`` uint8 RGB, contiguous or channels_last: scale them on the device with
    :func:`facemtl.to_model_input`."""
    identities: Tensor
    """``(batch,)`` int64; −1 is unknown."""
    ages: Tensor
    """``(batch,)`` float32 years; NaN is unknown."""
    genders: Tensor
    """``(batch,)`` int64, 1 male, 0 female; −1 is unknown."""
    indices: Tensor
    """``(batch,)`` int64 places in the data set of the faces delivered."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> FaceBatch:
        """Move all tensors to ``device``; ``non_blocking`` copies pinned memory while the host goes on."""
        return FaceBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def __reduce__(self) -> tuple[Callable[..., FaceBatch], tuple[Tensor | npt.NDArray[np.generic], ...]]:
        # A tensor that leaves a worker process costs a shared file and a connection: only images are worth that.
        return _unpickled, (self.images, *(labels.numpy(force=True) for labels in self[1:]))


def collate_faces(samples: Sequence[FaceSample]) -> FaceBatch:
    """Put samples together into a batch: the ``collate_fn`` of a ``DataLoader`` over faces.

    torch's own collation gives float64 ages and a named tuple that is still called a sample. Images that lie in one
    buffer already, as the data sets here decode a batch, are not copied.

    Args:
        samples: At least one; images all of one size.

    Returns:
        The batch, in the order of ``samples``.

    Raises:
        ValueError: If there is no sample.
        ShapeError: If images are of different sizes, or not ``(3, height, width)``.

    Example:
        >>> import torch
        >>> face = FaceSample(torch.zeros(3, 112, 112, dtype=torch.uint8), identity=4, age=31.5, gender=1, index=0)
        >>> batch = collate_faces([face, face])
        >>> tuple(batch.images.shape), batch.ages
        ((2, 3, 112, 112), tensor([31.5000, 31.5000]))
    """
    if not samples:
        raise ValueError("collate_faces: 'samples' must hold at least one sample, got none.")
    return FaceBatch(
        images=_stacked(samples),
        identities=torch.tensor([sample.identity for sample in samples], dtype=torch.int64),
        ages=torch.tensor([sample.age for sample in samples], dtype=torch.float32),
        genders=torch.tensor([sample.gender for sample in samples], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
    )


def _unpickled(images: Tensor, *labels: npt.NDArray[np.generic]) -> FaceBatch:
    return FaceBatch(images, *(torch.from_numpy(column) for column in labels))


def _stacked(samples: Sequence[FaceSample]) -> Tensor:
    first = samples[0].image
    for sample in samples:
        if sample.image.shape != first.shape or first.dim() != 3 or first.shape[0] != 3:
            raise ShapeError(
                f"collate_faces: images must be (3, height, width) and all of one size, got {shape_text(first)} of "
                f"face {samples[0].index} and {shape_text(sample.image)} of face {sample.index}. "
                "Let the data set resize them: FaceDataset(..., resize=True)."
            )
    if _lie_in_one_buffer(samples, first):
        return first.as_strided((len(samples), *first.shape), (first.numel(), *first.stride()))
    return torch.stack([sample.image for sample in samples])


def _lie_in_one_buffer(samples: Sequence[FaceSample], first: Tensor) -> bool:
    """Whether each image starts where the last one ends, in the same memory and the same layout."""
    if first.layout != torch.strided or not (first.is_contiguous() or first.movedim(0, -1).is_contiguous()):
        return False
    storage, start, size = first.untyped_storage().data_ptr(), first.data_ptr(), first.numel() * first.element_size()
    return all(
        sample.image.data_ptr() == start + number * size
        and sample.image.dtype == first.dtype
        and sample.image.stride() == first.stride()
        and sample.image.untyped_storage().data_ptr() == storage
        for number, sample in enumerate(samples)
    )
