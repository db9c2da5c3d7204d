from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from facemtl import AgeGroups, AttentionFeatureDecomposition, MTLFace
from facemtl.networks.saved_model import SavedModelError


def small(**options: object) -> MTLFace:
    return MTLFace.code2021(depth=18, width=4, image_size=(64, 48), embedding_dimension=16, **options)  # type: ignore[arg-type]


def test_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = small(age_groups=AgeGroups((30, 40, 50)))
    model.save_pretrained(tmp_path / "model")
    loaded = MTLFace.from_pretrained(tmp_path / "model")
    faces = torch.rand(2, 3, 64, 48) * 2 - 1
    assert torch.equal(loaded.embed(faces), model.embed(faces))
    assert torch.equal(loaded.age_to(faces), model.age_to(faces))
    assert not loaded.training
    assert loaded.age_groups == AgeGroups((30, 40, 50))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_own_parts_cannot_be_written_down(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"only a model of MTLFace\.paper2021"):
        small(decomposition=AttentionFeatureDecomposition(32)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="only a model"):
        small().for_inference().save_pretrained(tmp_path)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_flipped_bit_is_noticed(tmp_path: Path, place: int) -> None:
    small().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(SavedModelError, match=r"is not the file that config\.json was written with"):
        MTLFace.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"preset": "paper2025"}, "holds no MTLFace of paper2021 or code2021"),
        ({"model": "Other"}, "holds no MTLFace"),
        ({"options": {"depths": 18}}, "unknown option 'depths'"),
        ({"options": {"depth": 34}}, "do not fit its config"),
    ],
)
def test_other_configs_are_refused(tmp_path: Path, edit: dict[str, object], message: str) -> None:
    small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **edit}))
    with pytest.raises(SavedModelError, match=message):
        MTLFace.from_pretrained(tmp_path)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"config\.json' cannot be read: No such file"):
        MTLFace.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("<html>")
    with pytest.raises(SavedModelError, match=r"config\.json' is no JSON"):
        MTLFace.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(SavedModelError, match="must hold an object, got list"):
        MTLFace.from_pretrained(tmp_path)
