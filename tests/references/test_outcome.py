"""What a run leaves, read back: the model's folder, its ONNX in another runtime, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facemtl.data.identity_map import load_identity_map
from facemtl.data.joined_faces import JoinedFaces
from facemtl.networks.mtlface import MTLFace
from facemtl.training.aging_grid import write_aging_grid
from facemtl.training.outcome import draw_grid, export_model, export_recogniser, faces_to_show
from facemtl.training.training_faces import open_training_faces
from tests.small_runs import SIDE, random_images, small_model


@pytest.fixture(scope="module")
def faces() -> JoinedFaces:
    held_out = open_training_faces(held_out_people=12, image_size=SIDE).held_out
    assert held_out is not None
    return held_out


def test_the_model_is_read_back_as_it_was(tmp_path: Path) -> None:
    model, images = small_model(), random_images(3)
    names = [f"1/Ada {number}" for number in range(4)]
    written = export_model(model, tmp_path / "a" / "model", identity_names=names, image_size=SIDE, onnx=False)
    assert [path.name for path in written] == ["config.json", "model.safetensors", "identities.json"]
    assert sorted(path.name for path in (tmp_path / "a" / "model").iterdir()) == sorted(path.name for path in written)
    other = MTLFace.from_pretrained(tmp_path / "a" / "model")
    assert torch.equal(other.embed(images), model.embed(images))
    assert torch.equal(other.estimate_age(images), model.estimate_age(images))
    assert torch.equal(other.age_to(images), model.age_to(images))
    assert list(load_identity_map(written[2])) == names
    assert json.loads(written[0].read_text())["options"]["image_size"] == SIDE
    assert model.training


@pytest.mark.compiled
def test_onnx_says_what_the_model_says(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    written = export_model(model, tmp_path, identity_names=["Ada", "Bo"], image_size=SIDE)
    assert written[-1].name == "recogniser.onnx"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    session = onnxruntime.InferenceSession(str(written[-1]), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    assert [entry.name for entry in session.get_outputs()] == ["embeddings", "ages"]
    for batch in (1, 3):
        images = random_images(batch, seed=batch)
        embeddings, ages = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(embeddings, model.embed(images, flip=False).numpy(), atol=1e-5)
        np.testing.assert_allclose(ages, model.estimate_age(images).numpy(), atol=1e-3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", missing)
    with pytest.raises(
        ImportError, match=r'export_recogniser needs onnx and onnxscript: pip install "facemtl\[onnx\]"'
    ):
        export_recogniser(small_model(), tmp_path / "recogniser.onnx", image_size=SIDE)
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facemtl.training.outcome.importlib.util.find_spec", lambda name: None)
    written = export_model(small_model(), tmp_path, identity_names=["Ada", "Bo"], image_size=SIDE)
    assert [path.name for path in written] == ["config.json", "model.safetensors", "identities.json"]


def test_the_picture_has_a_row_for_each_person_and_a_column_for_each_age(faces: JoinedFaces, tmp_path: Path) -> None:
    model = small_model()
    sizes = {}
    for people in (1, 2, 5):
        path = tmp_path / "grids" / f"{people}.png"
        draw_grid(model, faces, path, people=people)
        with Image.open(path) as image:
            sizes[people] = image.size
        shown = faces_to_show(faces, people=people)
        assert len(shown.labels) == people
        plain = tmp_path / "plain.png"
        columns = ("input", *model.age_groups.labels)
        write_aging_grid(
            plain, torch.zeros(people, 8, 3, SIDE, SIDE), column_labels=columns, row_labels=shown.labels, scale=2
        )
        with Image.open(plain) as image:
            assert sizes[people] == image.size
    assert sizes[5][1] - sizes[2][1] == 3 * (sizes[2][1] - sizes[1][1])
    assert sizes[1][0] > 8 * 2 * SIDE
    assert model.training


def test_the_same_picture_every_time(faces: JoinedFaces, tmp_path: Path) -> None:
    model = small_model()
    for name in ("a.png", "b.png"):
        draw_grid(model, faces, tmp_path / name, people=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_large_faces_are_shown_as_they_are(tmp_path: Path) -> None:
    model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=16)
    large = open_training_faces(held_out_people=2, image_size=112).held_out
    assert large is not None
    draw_grid(model, large, tmp_path / "large.png", people=1)
    with Image.open(tmp_path / "large.png") as image:
        assert 8 * 112 < image.width < 12 * 112


def test_an_export_that_fails_leaves_the_model_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr("facemtl.training.outcome.export_recogniser", fail)
    with pytest.warns(UserWarning, match=r"recogniser\.onnx' could not be exported: no such operator$"):
        written = export_model(small_model(), tmp_path, identity_names=["a", "b"], image_size=SIDE)
    assert [path.name for path in written] == ["config.json", "model.safetensors", "identities.json"]
