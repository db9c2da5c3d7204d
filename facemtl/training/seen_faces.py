"""What a model says of faces: who and how old they are, and what becomes of them at other ages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.pixels import to_model_input
from facemtl._core.precision import at_least_float32
from facemtl.data.samples import FaceSample, collate_faces
from facemtl.layers.age import expected_age
from facemtl.layers.evaluating import evaluating
from facemtl.networks.mtlface import MTLFace


@runtime_checkable
class FaceLabels(Protocol):
    """Labels of all faces of a data set."""

    @property
    def identities(self) -> npt.NDArray[np.integer]:
        """``(faces,)``; −1 is unknown."""

    @property
    def ages(self) -> npt.NDArray[np.floating]:
        """``(faces,)`` years; NaN is unknown."""


@runtime_checkable
class LabelledFaces(Protocol):
    """What is asked of a data set; :class:`facemtl.FaceDataset` and :class:`facemtl.RecordDataset` are such."""

    @property
    def columns(self) -> FaceLabels:
        """Labels of all faces."""

    def __getitem__(self, index: int, /) -> FaceSample: ...


class SeenFaces(NamedTuple):
    """Labels of faces, and what the model says of them."""

    places: npt.NDArray[np.int64]
    """``(faces,)`` places in the data set."""
    identities: npt.NDArray[np.int64]
    """``(faces,)``; −1 is unknown."""
    ages: npt.NDArray[np.float64]
    """``(faces,)`` years; NaN is unknown."""
    embeddings: npt.NDArray[np.float64]
    """``(faces, dimension)`` of length 1, of face and mirrored face together."""
    estimates: npt.NDArray[np.float64]
    """``(faces,)`` estimated ages in years."""


class JudgedSynthesis(NamedTuple):
    """What the model says of the faces that it made itself, of each source face and target group."""

    hits: Tensor
    """``(faces, groups)`` 1 where the estimated age lies in the target group, else 0."""
    cosines: Tensor
    """``(faces, groups)`` of the embeddings of input and synthesized face."""
    changes: Tensor
    """``(faces, groups)`` mean absolute difference of their pixels, in levels of 0 to 255."""


def _batches(
    model: MTLFace, dataset: LabelledFaces, places: npt.NDArray[np.int64], batch_size: int
) -> Iterator[tuple[list[FaceSample], Tensor]]:
    """Samples and their images as the model wants them; faces that stand in for broken images are left out."""
    parameter = next(model.parameters(), torch.empty(0))
    several = getattr(dataset, "__getitems__", None)
    for start in range(0, len(places), batch_size):
        wanted = places[start : start + batch_size].tolist()
        samples = several(wanted) if several is not None else [dataset[place] for place in wanted]
        samples = [sample for place, sample in zip(wanted, samples, strict=True) if sample.index == place]
        if samples:
            images = collate_faces(samples).images.to(parameter.device)
            yield samples, to_model_input(images, dtype=parameter.dtype)


class FaceReading(NamedTuple):
    """What the recognising half of a model says of faces, by one pass of the encoder."""

    embeddings: Tensor
    """``(faces, dimension)``, not normalised."""
    ages: Tensor
    """``(faces,)`` estimated years."""


def read_faces(model: MTLFace, images: Tensor) -> FaceReading:
    """Read embeddings and ages, where :meth:`~facemtl.MTLFace.embed` and ``estimate_age`` would encode twice."""
    faces = model.encode(images)
    return FaceReading(
        at_least_float32(model.embedding(faces.identity)), expected_age(model.age_head(faces.age).age_logits)
    )


@torch.no_grad()
def look_at(model: MTLFace, dataset: LabelledFaces, places: npt.NDArray[np.int64], batch_size: int) -> SeenFaces:
    """Read embeddings and ages of faces, in batches and eval mode; stand-ins for broken images are left out.

    Raises:
        ValueError: If all images are broken, or the model gives what is not finite.
    """
    kept: list[FaceSample] = []
    embeddings, estimates = [], []
    for samples, images in _batches(model, dataset, places, batch_size):
        kept += [sample._replace(image=torch.empty(0)) for sample in samples]
        with evaluating(model):
            reading = read_faces(model, images)
            both = reading.embeddings + read_faces(model, images.flip(-1)).embeddings
        embeddings.append(F.normalize(both, dim=1).cpu().double())
        estimates.append(reading.ages.cpu().double())
    if not kept:
        raise ValueError(f"held_out_figures: all {len(places)} faces of 'dataset' are broken images.")
    looked = SeenFaces(
        np.array([sample.index for sample in kept], np.int64),
        np.array([sample.identity for sample in kept], np.int64),
        np.array([sample.age for sample in kept], np.float64),
        torch.cat(embeddings).numpy(),
        torch.cat(estimates).numpy(),
    )
    bad = int((~(np.isfinite(looked.embeddings).all(axis=1) & np.isfinite(looked.estimates))).sum())
    if bad:
        raise ValueError(
            f"held_out_figures: 'model' must give finite embeddings and ages, got others for {bad} of {len(kept)} "
            "faces. Its training diverged: go back to an earlier checkpoint."
        )
    return looked


@torch.no_grad()
def judge_synthesis(
    model: MTLFace, dataset: LabelledFaces, places: npt.NDArray[np.int64], batch_size: int
) -> JudgedSynthesis:
    """Show faces at all ages, and let the model judge what comes out, in batches and eval mode.

    Raises:
        ValueError: If a synthesized face is not finite.
    """
    targets = torch.arange(model.age_groups.num_groups)
    judged = [JudgedSynthesis(*(torch.empty(0, len(targets), dtype=torch.float64) for _ in JudgedSynthesis._fields))]
    # Each face becomes as many as there are groups: as many fewer at once.
    for _, images in _batches(model, dataset, places, max(1, batch_size // len(targets))):
        with evaluating(model):
            aged = model.age_to(images)
            before, after = read_faces(model, images), read_faces(model, aged.flatten(0, 1))
        if not bool(aged.isfinite().all() & after.ages.isfinite().all()):
            raise ValueError(
                "held_out_figures: the generator of 'model' must give finite faces, got NaN or infinite ones. Its "
                "training diverged: go back to an earlier checkpoint."
            )
        shape = aged.shape[:2]
        changes = (aged - images.unsqueeze(1)).float().abs().mean(dim=(2, 3, 4)) * 127.5
        cosines = F.cosine_similarity(after.embeddings.unflatten(0, shape), before.embeddings.unsqueeze(1), dim=2)
        hits = model.age_groups.groups_of(after.ages.cpu()).unflatten(0, shape) == targets
        judged.append(JudgedSynthesis(hits.double(), cosines.cpu().double(), changes.cpu().double()))
    return JudgedSynthesis(*(torch.cat(parts) for parts in zip(*judged, strict=True)))
