from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from facemtl.data.encode import encode_image
from facemtl.data.synthetic.faces import SyntheticFaces
from facemtl.data.synthetic.folder import SETTINGS, SynthesisSettings, synthesize_folder
from tests.synthetic_faces import renderer, small_faces

ONE = SynthesisSettings(num_identities=1, faces_per_identity=1, size=32)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("num_identities", 0, 1), ("faces_per_identity", -2, 1), ("first_identity", -1, 0)],
)
def test_numbers(name: str, value: int, least: int) -> None:
    numbers: dict[str, Any] = {"num_identities": 2, name: value}
    with pytest.raises(ValueError, match=rf"^SyntheticFaces: '{name}' must be at least {least}, got {value}\.$"):
        SyntheticFaces(**numbers)


@pytest.mark.parametrize("ages", [(30.0, 30.0), (-1.0, 20.0), (50.0, 20.0), (0.0, 100.5), (float("nan"), 3.0)])
def test_ages(ages: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"SyntheticFaces: 'ages' must be two rising years .*got \({ages[0]}, "):
        SyntheticFaces(2, ages=ages)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"^SyntheticFaces: 'seed' must lie in 0 \.\.\. 2\*\*64 - 1, got {seed}\.$"):
        SyntheticFaces(1, seed=seed)


@pytest.mark.parametrize("index", [24, -25, 1000])
def test_index(index: int) -> None:
    with pytest.raises(IndexError, match=rf"SyntheticFaces: index must lie in \[0, 24\), got {index}\."):
        small_faces()[index]


@pytest.mark.parametrize("indices", [[0, 24], [-1], [3, -30, 2]])
def test_indices(indices: list[int]) -> None:
    text = str(indices).replace("[", r"\[").replace("]", r"\]")
    for call in (small_faces().batch, small_faces().labels, small_faces().truth, small_faces().__getitems__):
        with pytest.raises(IndexError, match=rf"SyntheticFaces: indices must lie in \[0, 24\), got {text}"):
            call(indices)


def test_iteration_ends() -> None:
    faces: Any = small_faces(1)  # by __getitem__ and IndexError
    assert [sample.index for sample in faces] == [0, 1, 2, 3]


@pytest.mark.parametrize("age", [-1.0, 101.0, float("nan")])
def test_ages_of_the_renderer(age: float) -> None:
    with pytest.raises(ValueError, match=rf"'ages' .*{age}"):
        renderer()(torch.tensor([1, 2]), torch.tensor([20.0, age]), torch.tensor([0, 1]))


def test_identities_and_pictures_of_the_renderer() -> None:
    with pytest.raises(ValueError, match="'indices' must lie in .* got -4"):
        renderer()(torch.tensor([-4]), torch.tensor([20.0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="'indices' must lie in .* got -1"):
        renderer()(torch.tensor([4]), torch.tensor([20.0]), torch.tensor([-1]))


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality(quality: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"encode_image: 'quality' must lie in \[1, 100\], got {quality}\."):
        encode_image(torch.zeros(3, 4, 4, dtype=torch.uint8), "jpg", quality=quality)
    with pytest.raises(ValueError, match=rf"SynthesisSettings: 'quality' must lie in \[1, 100\], got {quality}\."):
        SynthesisSettings(quality=quality)


def test_form() -> None:
    unknown: Any = "gif"
    with pytest.raises(ValueError, match='encode_image: \'form\' must be one of "jpg", "png", "webp", got "gif"'):
        encode_image(torch.zeros(3, 4, 4, dtype=torch.uint8), unknown)
    with pytest.raises(ValueError, match="SynthesisSettings: 'image_format' must be one of .*got \"gif\""):
        SynthesisSettings(image_format=unknown)


def test_images_to_encode() -> None:
    with pytest.raises(TypeError, match=r"encode_image: 'image' must have dtype uint8, got torch\.float32"):
        encode_image(torch.zeros(3, 4, 4), "png")
    with pytest.raises(ValueError, match=r"encode_image: 'image' must have shape \(3, height, width\), got \(4, 4\)"):
        encode_image(torch.zeros(4, 4, dtype=torch.uint8), "png")
    with pytest.raises(ValueError, match=r"encode_image: 'image' must have RGB channels = 3 on axis 0.*\(4, 4, 3\)"):
        encode_image(torch.zeros(4, 4, 3, dtype=torch.uint8), "png")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"synthesize_folder: '{tmp_path}' holds other files\."):
        synthesize_folder(tmp_path, ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "faces"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"'destination' must be a folder, got the file '{path}'"):
        synthesize_folder(path, ONE)
    assert path.read_bytes() == b"mine"


def test_other_settings(tmp_path: Path) -> None:
    synthesize_folder(tmp_path, ONE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = SynthesisSettings(num_identities=1, faces_per_identity=1, size=32, seed=1)
    with pytest.raises(ValueError, match=rf"'{tmp_path}' holds faces of other settings, see {SETTINGS}\."):
        synthesize_folder(tmp_path, other)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SynthesisSettings(num_identities=0), "'num_identities' must be at least 1, got 0"),
        (SynthesisSettings(ages=(40.0, 20.0)), r"'ages' must be .*got \(40\.0, 20\.0\)"),
        (SynthesisSettings(size=0), "0"),
        (SynthesisSettings(seed=-1), "'seed' must lie in .*got -1"),
    ],
)
def test_settings_are_refused_before_a_folder_is_made(
    settings: SynthesisSettings, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        synthesize_folder(tmp_path / "faces", settings)
    assert not (tmp_path / "faces").exists()


def test_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synthesize_folder: 'workers' must be at least 0, got -1"):
        synthesize_folder(tmp_path, ONE, workers=-1)
    assert not list(tmp_path.iterdir())
