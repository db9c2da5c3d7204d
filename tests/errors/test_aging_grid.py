from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facemtl.training.aging_grid import write_aging_grid

FACES = torch.zeros(2, 3, 3, 16, 16)
LABELS = ("input", "a", "b")


@pytest.mark.parametrize(
    ("name", "faces", "options", "message"),
    [
        ("grid.jpg", FACES, {}, r"'path' must end in '\.png', got .*grid\.jpg"),
        ("grid.png", FACES[0], {}, r"'faces' must have shape \(people, .* got \(3, 3, 16, 16\)"),
        ("grid.png", FACES[:0], {}, r"none of them 0, got \(0, 3, 3, 16, 16\)"),
        ("grid.png", FACES.transpose(2, 4), {}, r"got \(2, 3, 16, 16, 3\)"),
        ("grid.png", FACES, {"column_labels": ("a", "b")}, "'column_labels' must be 3 labels, .* got 2"),
        ("grid.png", FACES, {"row_labels": ("a",)}, "'row_labels' must be 2 labels, .* or none, got 1"),
        ("grid.png", FACES, {"scale": 0}, r"'scale' must lie in \[1, 8\], got 0"),
    ],
)
def test_options_are_checked(
    tmp_path: Path, name: str, faces: torch.Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"write_aging_grid: .*{message}"):
        write_aging_grid(tmp_path / name, faces, **{"column_labels": LABELS, **options})
    assert list(tmp_path.iterdir()) == []


def test_whole_numbers_are_no_faces(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'faces' must have a floating-point dtype, got torch\.uint8"):
        write_aging_grid(tmp_path / "grid.png", FACES.byte(), column_labels=LABELS)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="write_aging_grid needs Pillow"):
        write_aging_grid(tmp_path / "grid.png", FACES, column_labels=LABELS)
