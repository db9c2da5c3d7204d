from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facemtl.networks.mtlface import MTLFace
from facemtl.training.aging_grid import aging_grid, write_aging_grid

LABELS = ("input", "10−", "11–20", "21–30", "31–40", "41–50", "51–60", "61+")


def flat_faces(people: int, columns: int, side: int) -> Tensor:
    """Each face of one colour of its own, of which none is a shade of grey, as the labels are."""
    colours = torch.full((people, columns, 3), -1.0)
    colours[:, :, 0] = torch.linspace(0.0, 0.9, people)[:, None]
    colours[:, :, 1] = torch.linspace(-0.8, 0.8, columns)
    return colours[..., None, None].expand(-1, -1, -1, side, side)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


@pytest.mark.parametrize(("scale", "row_labels"), [(1, ()), (1, ("3 years", "40 years", "of age\nunknown")), (2, ())])
def test_every_face_is_in_its_place(tmp_path: Path, scale: int, row_labels: tuple[str, ...]) -> None:
    """Found by their colours: rows are people, columns in order, all of one size, on a grid, the first one apart."""
    faces = flat_faces(3, 8, 48)
    write_aging_grid(tmp_path / "grid.png", faces, column_labels=LABELS, row_labels=row_labels, scale=scale)
    pixels = read(tmp_path / "grid.png")
    colours = ((faces[..., 0, 0] + 1) * 127.5).round().int().numpy()
    corners = np.empty((3, 8, 2), int)
    for row in range(3):
        for column in range(8):
            rows, columns = np.nonzero((pixels == colours[row, column]).all(axis=2))
            assert len(rows) >= (48 * scale) ** 2
            corners[row, column] = rows.min(), columns.min()
            assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (48 * scale, 48 * scale)
    assert (corners[:, :, 0] == corners[:, :1, 0]).all()
    assert (corners[:, :, 1] == corners[:1, :, 1]).all()
    steps = np.diff(corners[0, :, 1])
    assert (steps[1:] == steps[1]).all()
    assert steps[0] > steps[1] > 48 * scale
    assert (pixels[-1] == 255).all()
    assert (pixels[:, -1] == 255).all()


def test_labels_are_written_where_they_belong(tmp_path: Path) -> None:
    """Ink over each column, and to the left of each row, and nowhere else outside the faces."""
    faces = torch.full((2, 3, 3, 64, 64), 1.0)
    write_aging_grid(tmp_path / "labels.png", faces, column_labels=("input", "10−", "61+"), row_labels=("a", "W"))
    write_aging_grid(tmp_path / "none.png", faces, column_labels=("", "", ""))
    assert (read(tmp_path / "none.png") == 255).all()
    ink = (read(tmp_path / "labels.png") < 128).any(axis=2)
    right = ink.shape[1] - 3 * 64 - 20
    over, beside = ink[: ink.shape[0] - 2 * 64 - 6], ink[ink.shape[0] - 2 * 64 - 6 :]
    assert over[:, :right].sum() == 0
    thirds = np.array_split(over[:, right:], 3, axis=1)
    assert all(third.sum() > 20 for third in thirds)
    upper, lower = np.array_split(beside, 2)
    assert beside[:, right + 6 :].sum() == 0
    assert 10 < upper.sum() < lower.sum()


def test_dashes_of_the_groups_are_drawn(tmp_path: Path) -> None:
    """Pillow's own font lacks the dashes of the groups' labels and would draw a box."""
    faces = torch.full((1, 1, 3, 112, 112), 1.0)
    ink = {}
    for label in ("11–20", "11-20", "10−", "10-"):
        write_aging_grid(tmp_path / "grid.png", faces, column_labels=(label,))
        ink[label] = read(tmp_path / "grid.png")
    assert (ink["11–20"] == ink["11-20"]).all()
    assert (ink["10−"] == ink["10-"]).all()


def test_pixels_are_those_of_the_faces(tmp_path: Path) -> None:
    faces = torch.rand(1, 1, 3, 30, 20) * 2 - 1
    write_aging_grid(tmp_path / "deep" / "grid.png", faces, column_labels=("",))
    pixels = read(tmp_path / "deep" / "grid.png")
    wanted = ((faces[0, 0] + 1) * 127.5).round().int().permute(1, 2, 0).numpy()
    left = pixels.shape[1] - 20 - 4
    found = [
        (top, shift)
        for top in range(pixels.shape[0] - 29)
        for shift in range(left + 5)
        if (pixels[top : top + 30, shift : shift + 20] == wanted).all()
    ]
    assert len(found) == 1


def test_what_is_no_number_is_magenta(tmp_path: Path) -> None:
    faces = torch.zeros(1, 1, 3, 32, 32)
    faces[0, 0, 1, :4, :5] = float("nan")
    faces[0, 0, :, 8, 8] = float("inf")
    write_aging_grid(tmp_path / "grid.png", faces, column_labels=("",))
    pixels = read(tmp_path / "grid.png")
    assert (pixels == [255, 0, 255]).all(axis=2).sum() == 20


def test_a_grid_is_the_input_and_every_age() -> None:
    model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
    for parameter in model.generator.parameters():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, std=0.05)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    images[0, 0, 0, 0] = 1.2  # what a synthesized face may be
    model.train()
    grid = aging_grid(model, images)
    assert model.training
    assert not grid.requires_grad
    assert grid.shape == (2, 8, 3, 64, 64)
    assert torch.equal(grid[:, 0], images.clamp(-1, 1))
    for group in range(7):
        torch.testing.assert_close(grid[:, 1 + group], model.age_to(images, group), atol=1e-5, rtol=0)
    assert float((grid[:, 1] - grid[:, 7]).abs().max()) > 1e-4
