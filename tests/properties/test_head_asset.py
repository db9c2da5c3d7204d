from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from facemtl.data.synthetic.head_asset import (
    ANCESTRIES,
    ANCHOR_YEARS,
    HEAD_FILE,
    REGIONS,
    read_head_asset,
    write_head_asset,
)


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    again = tmp_path / "head.safetensors"
    write_head_asset(again, read_head_asset())
    assert again.read_bytes() == HEAD_FILE.read_bytes()


def test_the_asset_is_small_and_says_whose_it_is() -> None:
    assert HEAD_FILE.stat().st_size < 3_000_000
    with safe_open(HEAD_FILE, "pt") as file:
        assert list(file.metadata()) == ["facemtl"]  # several would be written in a random order
        assert "CC0" in json.loads(file.metadata()["facemtl"])["licence"]
    notice = (HEAD_FILE.parent / "NOTICE.md").read_text(encoding="utf-8")
    assert HEAD_FILE.name in notice
    assert "CC0" in notice


def test_parts_fit_each_other() -> None:
    asset = read_head_asset()
    vertices = asset.people.shape[-2]
    assert asset.people.shape == (2, len(ANCHOR_YEARS), len(ANCESTRIES), vertices, 3)
    assert asset.triangles.unique().tolist() == list(range(vertices))
    assert asset.texture_coordinates.shape == (len(asset.triangles), 3, 2)
    assert asset.regions.shape == (vertices, len(REGIONS))
    assert len(asset.islands) == len(asset.triangles)
    for shapes in (asset.changes, asset.actions):
        assert len(shapes.names) == len(shapes.vertices) == len(shapes.offsets) == len(set(shapes.names))
        for moved, offsets in zip(shapes.vertices, shapes.offsets, strict=True):
            assert offsets.shape == (len(moved), 3)
            assert moved.unique().equal(moved)
            assert offsets.isfinite().all()
            assert (offsets != 0).any(1).all()


def test_changes_come_in_pairs_of_opposites() -> None:
    asset = read_head_asset()
    assert len(asset.changes.names) % 2 == 0
    shapes = zip(asset.changes.vertices, asset.changes.offsets, strict=True)
    dense = torch.zeros(len(asset.changes.names), asset.people.shape[-2], 3)
    for row, (moved, offsets) in enumerate(shapes):
        dense[row, moved] = offsets
    directions = torch.nn.functional.normalize(dense.flatten(1), dim=1)
    likeness = (directions[::2] * directions[1::2]).sum(1)
    assert (likeness < 0).double().mean() > 0.9  # a few of the modellers' opposites are shapes of their own
