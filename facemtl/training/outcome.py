"""What a run leaves: pictures of people at all ages, the model in formats that others read, and the report."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facemtl._core.pixels import to_model_input
from facemtl._core.whole_files import stage
from facemtl.data.identity_map import save_identity_map
from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.samples import collate_faces
from facemtl.networks.mtlface import MTLFace
from facemtl.training.aging_grid import aging_grid, write_aging_grid
from facemtl.training.frozen import frozen_recogniser
from facemtl.training.seen_faces import read_faces

YOUNGEST, OLDEST = 5.0, 75.0


class ShownFaces(NamedTuple):
    """Faces for a picture."""

    images: Tensor
    """``(people, 3, height, width)`` RGB in [-1, 1]."""
    labels: tuple[str, ...]
    """The age of each."""


def faces_to_show(faces: JoinedFaces, *, people: int = 8) -> ShownFaces:
    """Choose one face each of several people, from the youngest to the oldest; the same ones every time.

    Args:
        faces: To choose from.
        people: How many at most.

    Example:
        >>> from facemtl.data.bundled import bundled_faces
        >>> faces_to_show(JoinedFaces([bundled_faces()]), people=3).labels
        ('5 years', '40 years', '75 years')
    """
    identities, ages = faces.columns.identities, faces.columns.ages
    known = np.flatnonzero((identities >= 0) & ~np.isnan(ages))
    chosen: list[int] = []
    for wanted in np.linspace(YOUNGEST, OLDEST, people):
        free = known[~np.isin(identities[known], identities[chosen])]
        if len(free):
            chosen.append(int(free[np.argmin(np.abs(ages[free] - wanted))]))
    chosen.sort(key=lambda face: float(ages[face]))
    if not chosen:
        chosen = np.unique(identities, return_index=True)[1][:people].tolist()
    batch = collate_faces(faces.__getitems__(chosen))
    labels = tuple("age unknown" if np.isnan(age) else f"{age:.0f} years" for age in batch.ages.tolist())
    return ShownFaces(to_model_input(batch.images), labels)


def draw_grid(model: MTLFace, faces: JoinedFaces, path: str | Path, *, people: int = 8) -> None:
    """Draw people (rows) as they are and at all ages (columns).

    Args:
        model: With a generator.
        faces: To choose the people from.
        path: ``.png`` to write.
        people: How many rows.
    """
    shown = faces_to_show(faces, people=people)
    write_aging_grid(
        path,
        aging_grid(model, shown.images),
        column_labels=("input", *model.age_groups.labels),
        row_labels=shown.labels,
        scale=2 if shown.images.shape[-1] < 100 else 1,
    )


def export_model(
    model: MTLFace, folder: str | Path, *, identity_names: Sequence[str], image_size: int, onnx: bool = True
) -> list[Path]:
    """Write the model for others: ``model.safetensors`` and ``config.json``, ``identities.json``, ``recogniser.onnx``.

    ONNX is written where the extra ``onnx`` is installed; its file takes ``(batch, 3, side, side)`` RGB in [-1, 1] and
    gives embeddings of unit length and ages in years.

    Args:
        model: Built by a preset.
        folder: Where to.
        identity_names: Who each class of the margin head was.
        image_size: Side of the faces in pixels.
        onnx: Whether to export to ONNX, if that can be had.

    Returns:
        The files.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    save_identity_map(identity_names, folder / "identities.json")
    written = [folder / name for name in ("config.json", "model.safetensors", "identities.json")]
    if onnx and importlib.util.find_spec("onnxscript") and importlib.util.find_spec("onnx"):
        path = folder / "recogniser.onnx"
        try:
            export_recogniser(model, path, image_size=image_size)
            written.append(path)
        except (
            RuntimeError
        ) as error:  # torch's exporter and the installed onnxscript may not get on: the weights are safe
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"export_model: {str(path)!r} could not be exported: {reason}", stacklevel=2)
    return written


class OnnxRecogniserGraph(nn.Module):
    """What ``recogniser.onnx`` computes: images to embeddings of unit length and ages in years.

    Args:
        model: Frozen, its norms folded.
    """

    def __init__(self, model: MTLFace) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(batch, dimension)`` embeddings and ``(batch,)`` ages."""
        embeddings, ages = read_faces(self.model, images)
        return nn.functional.normalize(embeddings, dim=1), ages


def export_recogniser(model: MTLFace, path: str | Path, *, image_size: int) -> None:
    """Write the recogniser as ONNX, for a batch of any size; the file appears whole or not at all.

    Args:
        model: Not changed.
        path: ``.onnx`` to write.
        image_size: Side of the faces in pixels.

    Raises:
        ImportError: If the extra ``onnx`` is missing.
    """
    path = Path(path)
    graph = OnnxRecogniserGraph(frozen_recogniser(model).cpu().float()).eval()
    try:
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, 3, image_size, image_size),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            input_names=["images"],
            output_names=["embeddings", "ages"],
            verbose=False,
            external_data=False,
        )
    except ImportError as error:
        raise ImportError('export_recogniser needs onnx and onnxscript: pip install "facemtl[onnx]"') from error
    assert program is not None
    os.replace(stage(program.model_proto.SerializeToString(), staging=path.parent, durable=True), path)
