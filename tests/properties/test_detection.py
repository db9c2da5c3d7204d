"""What holds for any detections: which faces a policy keeps, and in what order landmarks stand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facemtl import Detections, FaceDetector, detect_faces, images_without_faces, select_faces
from facemtl.alignment.detection import arrange_landmarks, swapped_landmarks
from facemtl.alignment.detection_input import reduced_copy, restore_points
from facemtl.alignment.templates import LANDMARKS, FaceTemplate

SWAP = [1, 0, 2, 4, 3]
seeds = st.integers(0, 2**32 - 1)


def draw_detections(faces: int, images: int, seed: int) -> tuple[Detections, list[tuple[int, int]]]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(faces, 2, generator=generator) * 150 - 20
    boxes = torch.cat((corner, corner + torch.rand(faces, 2, generator=generator) * 80), 1)
    scores = torch.rand(faces, generator=generator)
    landmarks = torch.rand(faces, 5, 2, generator=generator) * 100
    index = torch.randint(images, (faces,), generator=generator).sort().values if images else torch.zeros(0).long()
    sizes = [(int(h), int(w)) for h, w in torch.randint(60, 200, (images, 2), generator=generator)]
    return Detections(boxes, scores, landmarks, index), sizes


@given(st.integers(0, 12), st.integers(1, 6), seeds, st.sampled_from(["largest", "most_central"]))
def test_one_face_is_kept_of_each_image_and_no_other_is_better(faces: int, images: int, seed: int, policy: str) -> None:
    found, sizes = draw_detections(faces, images, seed)
    kept = select_faces(found, sizes, policy=policy)
    assert kept.image_index.tolist() == sorted(set(found.image_index.tolist()))
    for row in range(len(kept.scores)):
        image = int(kept.image_index[row])
        rivals = [i for i in range(faces) if int(found.image_index[i]) == image]
        best = max(rivals, key=lambda i: (preference(found.boxes[i], sizes[image], policy), float(found.scores[i])))
        assert torch.equal(kept.boxes[row], found.boxes[best])
        assert torch.equal(kept.landmarks[row], found.landmarks[best])
        assert kept.scores[row] == found.scores[best]


def preference(box: Tensor, size: tuple[int, int], policy: str) -> float:
    left, top, right, bottom = box.double().tolist()
    height, width = size
    if policy == "largest":
        return max(0.0, min(right, width - 0.5) - max(left, -0.5)) * max(
            0.0, min(bottom, height - 0.5) - max(top, -0.5)
        )
    return -math.hypot((left + right) / 2 - (width - 1) / 2, (top + bottom) / 2 - (height - 1) / 2)


@given(st.integers(0, 12), st.integers(1, 6), seeds)
def test_all_keeps_every_face_the_surest_of_an_image_first(faces: int, images: int, seed: int) -> None:
    found, sizes = draw_detections(faces, images, seed)
    kept = select_faces(found, sizes, policy="all")
    rows = list(zip(kept.image_index.tolist(), (-kept.scores).tolist(), strict=True))
    assert rows == sorted(zip(found.image_index.tolist(), (-found.scores).tolist(), strict=True))
    assert sorted(kept.landmarks.sum((1, 2)).tolist()) == sorted(found.landmarks.sum((1, 2)).tolist())


@given(st.integers(0, 12), st.integers(1, 6), seeds)
def test_images_have_a_row_or_are_listed(faces: int, images: int, seed: int) -> None:
    found, sizes = draw_detections(faces, images, seed)
    kept = select_faces(found, sizes, policy="largest")
    assert sorted(kept.image_index.tolist() + images_without_faces(found, images)) == list(range(images))


@given(st.integers(0, 6), st.integers(1, 6), seeds)
def test_error_passes_only_one_face_in_each_image(faces: int, images: int, seed: int) -> None:
    found, sizes = draw_detections(faces, images, seed)
    counts = torch.bincount(found.image_index, minlength=images).tolist()
    if counts == [1] * images:
        assert torch.equal(select_faces(found, sizes, policy="error").boxes, found.boxes)
    else:
        with pytest.raises(ValueError, match="each image must have one face under policy='error'"):
            select_faces(found, sizes, policy="error")


def test_between_equal_boxes_the_surer_face_is_kept() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0]]).expand(3, 4)
    scores = torch.tensor([0.8, 0.95, 0.9])
    found = Detections(boxes, scores, torch.zeros(3, 5, 2), torch.zeros(3, dtype=torch.int64))
    for policy in ("largest", "most_central"):
        assert select_faces(found, [(50, 50)], policy=policy).scores.item() == pytest.approx(0.95)


@given(st.permutations(LANDMARKS), seeds)
def test_any_stated_order_is_put_right(order: list[str], seed: int) -> None:
    points = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(seed))
    as_stated = points[:, [LANDMARKS.index(name) for name in order]]
    assert torch.equal(arrange_landmarks(as_stated, order=order), points)


def turned_faces(seed: int, faces: int = 4) -> Tensor:
    """Faces of any place, size and turn in the picture, and moderate turns of the head."""
    generator = torch.Generator().manual_seed(seed)
    points = FaceTemplate.arcface().tensor().repeat(faces, 1, 1)
    points[:, 2, 0] += (torch.rand(faces, generator=generator, dtype=torch.float64) - 0.5) * 30  # the nose to a side
    points += torch.randn(faces, 5, 2, generator=generator, dtype=torch.float64)
    angle = torch.rand(faces, generator=generator, dtype=torch.float64) * 2 * math.pi
    scale = torch.exp(torch.rand(faces, generator=generator, dtype=torch.float64) * 4 - 2)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack((cosine, -sine, sine, cosine), 1).unflatten(1, (2, 2))
    return points @ turn.mT + torch.randn(faces, 1, 2, generator=generator, dtype=torch.float64) * 300


@given(seeds)
def test_swapped_landmarks_are_told_from_faces_turned_any_way(seed: int) -> None:
    faces = turned_faces(seed)
    assert not swapped_landmarks(faces).any()
    for order in (SWAP, [1, 0, 2, 3, 4], [0, 1, 2, 4, 3]):
        assert swapped_landmarks(faces[:, order]).all()


class Stated:
    """A detector that returns given faces in an order that it states, rightly or wrongly."""

    def __init__(self, landmarks: Tensor, order: tuple[str, ...]) -> None:
        self.landmarks, self.landmark_order = landmarks, order

    def detect(self, images: Tensor, /) -> Detections:
        faces = len(self.landmarks)
        centre = self.landmarks.mean(1)
        return Detections(
            torch.cat((centre - 5, centre + 5), 1), torch.ones(faces), self.landmarks, torch.arange(faces) % len(images)
        )


@given(st.permutations(LANDMARKS), seeds)
def test_a_detector_of_another_order_gives_ours(order: list[str], seed: int) -> None:
    faces = turned_faces(seed).float()
    detector = Stated(faces[:, [LANDMARKS.index(name) for name in order]], tuple(order))
    assert isinstance(detector, FaceDetector)
    found = detect_faces(detector, torch.zeros(4, 3, 8, 8))
    assert torch.equal(found.landmarks, faces)


@given(seeds)
def test_a_detector_that_names_the_persons_left_is_refused(seed: int) -> None:
    detector = Stated(turned_faces(seed).float()[:, SWAP], LANDMARKS)
    with pytest.raises(ValueError, match="got 4 of 4 faces mirrored"):
        detect_faces(detector, torch.zeros(4, 3, 8, 8))


@given(st.integers(20, 90), st.integers(20, 90), st.integers(8, 60), seeds)
def test_points_come_back_from_a_reduced_copy_at_pixel_centres(height: int, width: int, side: int, seed: int) -> None:
    # A ramp says where each pixel of the copy came from, to the filter's wobble of a tenth of a pixel.
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    image = torch.stack((x / width, y / height, torch.zeros_like(x)))
    copy = reduced_copy(image, side)
    assert max(copy.shape[1:]) == min(side, max(height, width))
    generator = torch.Generator().manual_seed(seed)
    margin = 3  # near the border the filter is cut off
    rows = torch.randint(margin, max(copy.shape[1] - margin, margin + 1), (5,), generator=generator)
    columns = torch.randint(margin, max(copy.shape[2] - margin, margin + 1), (5,), generator=generator)
    inside = (rows < copy.shape[1] - margin) & (columns < copy.shape[2] - margin)
    rows, columns = rows[inside], columns[inside]
    restored = restore_points(torch.stack((columns, rows), 1).double(), copy=copy, image=image)
    seen = torch.stack((copy[0, rows, columns] * width, copy[1, rows, columns] * height), 1).double()
    torch.testing.assert_close(restored, seen, atol=0.15, rtol=0)
