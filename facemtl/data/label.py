"""Label a data set that says nothing of ages and genders, by an estimator."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facemtl.data.estimators import AttributeEstimator, EstimatedAttributes
from facemtl.data.manifest import Manifest
from facemtl.data.photographs import PhotographError, read_photograph
from facemtl.data.progress import Progress
from facemtl.data.resizing import resized


class BrokenPhotograph(NamedTuple):
    """A photograph that could not be labelled."""

    name: str
    """As the manifest has it."""

    reason: str
    """What is wrong with the file."""


class LabelledManifest(NamedTuple):
    """A manifest with estimated labels, and the photographs that have none."""

    manifest: Manifest
    """As given, with ages and genders filled in."""

    num_ages: int
    """Ages that were estimated."""

    num_genders: int
    """Genders that were estimated."""

    broken: tuple[BrokenPhotograph, ...]
    """Photographs that could not be read; their labels stay as they were."""


def label_manifest(
    manifest: Manifest,
    estimator: AttributeEstimator,
    *,
    batch_size: int = 64,
    workers: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> LabelledManifest:
    """Estimate the ages and genders that a manifest does not know; what ``facemtl data label`` does.

    The paper's training sets were labelled so, by a commercial service. Estimates are no truth: a model that learns
    from them inherits their errors, and a figure of age error on them measures agreement with the estimator.

    Args:
        manifest: Of aligned faces, as the estimator wants them; other sizes are resized.
        estimator: :class:`~facemtl.data.estimators.MTLFaceEstimator`, :class:`~facemtl.data.estimators.OnnxEstimator`,
            or any callable with an ``input_size``.
        batch_size: Faces that are estimated together.
        workers: Processes that read photographs; 0 reads in this one.
        overwrite: Estimate labels that are known, too.
        progress: Show a bar on the terminal (needs tqdm).

    Returns:
        :class:`LabelledManifest`.

    Raises:
        ValueError: If ``batch_size`` or ``workers`` is out of range, or the estimator answers for another number of
            faces than it was asked, or with what is no age or gender.
    """
    if batch_size < 1:
        raise ValueError(f"label_manifest: 'batch_size' must be at least 1, got {batch_size}.")
    if workers < 0:
        raise ValueError(f"label_manifest: 'workers' must be at least 0, got {workers}.")
    ages, genders = manifest.ages.copy(), manifest.genders.copy()
    wanted = np.flatnonzero(overwrite | np.isnan(ages) | (genders < 0))
    photographs = _Photographs(manifest, wanted, estimator.input_size)
    loader = DataLoader(photographs, batch_size=batch_size, num_workers=workers, collate_fn=_collate)
    broken: list[BrokenPhotograph] = []
    counts = np.zeros(2, np.int64)
    with Progress(len(wanted), 0, progress) as bar:
        for images, indices, failed in loader:
            broken += failed
            if len(indices):
                estimated = estimator(images)
                _check(estimated, [manifest.filenames[index] for index in indices.tolist()])
                counts += _fill_in(estimated, indices, ages, genders, overwrite=overwrite)
            bar.add(len(indices) + len(failed))
    labelled = dataclasses.replace(manifest, ages=ages, genders=genders)
    return LabelledManifest(labelled, int(counts[0]), int(counts[1]), tuple(broken))


def _check(estimated: EstimatedAttributes, names: list[str]) -> None:
    """Whether there is one answer for each face, and it is an age and a gender."""
    for name, values in (("ages", estimated.ages), ("genders", estimated.genders)):
        if values is None:
            continue
        if values.shape != (len(names),):
            raise ValueError(
                f"label_manifest: the estimator must give {name} of shape ({len(names)},), got {tuple(values.shape)}."
            )
        good = (values >= 0) & (values <= 100) if name == "ages" else (values == 0) | (values == 1)
        if not bool(good.all()):
            at = int((~good).nonzero()[0])
            got = f"{values[at].item():g} for {names[at]!r}"
            allowed = "in [0, 100]" if name == "ages" else "of 0 or 1"
            raise ValueError(f"label_manifest: the estimator must give {name} {allowed}, got {got}.")


def _fill_in(
    estimated: EstimatedAttributes,
    indices: npt.NDArray[np.int64],
    ages: npt.NDArray[np.float32],
    genders: npt.NDArray[np.int8],
    *,
    overwrite: bool,
) -> tuple[int, int]:
    """Fill in what is wanted of a batch, in place; the numbers of ages and of genders."""
    without_age = indices if overwrite else indices[np.isnan(ages[indices])]
    ages[without_age] = estimated.ages.detach().cpu().numpy()[np.isin(indices, without_age)]
    if estimated.genders is None:
        return len(without_age), 0
    without_gender = indices if overwrite else indices[genders[indices] < 0]
    genders[without_gender] = estimated.genders.cpu().numpy()[np.isin(indices, without_gender)]
    return len(without_age), len(without_gender)


class _Photographs(Dataset["tuple[Tensor | None, int, BrokenPhotograph | None]"]):
    """The photographs that want labels, at the estimator's size; or why there is none."""

    def __init__(self, manifest: Manifest, wanted: npt.NDArray[np.int64], size: tuple[int, int]) -> None:
        self.manifest, self.wanted, self.size = manifest, wanted, size

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, number: int) -> tuple[Tensor | None, int, BrokenPhotograph | None]:
        index = int(self.wanted[number])
        try:
            return resized(read_photograph(self.manifest.path(index)), self.size), index, None
        except PhotographError as error:
            return None, index, BrokenPhotograph(self.manifest.filenames[index], error.reason)


_Batch = tuple[Tensor, "npt.NDArray[np.int64]", list[BrokenPhotograph]]


def _collate(items: list[tuple[Tensor | None, int, BrokenPhotograph | None]]) -> _Batch:
    images = [image for image, _, _ in items if image is not None]
    indices = np.array([index for image, index, _ in items if image is not None], np.int64)
    stacked = torch.stack(images) if images else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return stacked, indices, [failed for _, _, failed in items if failed is not None]
