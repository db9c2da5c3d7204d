"""The camera: turns heads, projects them, and lays them onto a template as a detector and aligner would."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl._core.checks import check_rank, check_size
from facemtl.alignment.similarity import estimate_similarity, transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_normal


class Camera(NamedTuple):
    """How a batch of heads stands before the camera. Each is ``(batch,)``."""

    yaw: Tensor
    """Degrees; positive turns the face to the viewer's right."""
    pitch: Tensor
    """Degrees; positive looks up."""
    roll: Tensor
    """Degrees; positive leans clockwise, as the viewer sees it."""
    distance: Tensor
    """Centimetres from the camera to the point between the eyes; near ones give long noses."""
    scale: Tensor
    """Pixels of a centimetre at that distance; times the distance it is the focal length in pixels."""
    right: Tensor
    """Centimetres that the head stands to the right of the picture's middle."""
    up: Tensor
    """Centimetres that it stands above the middle."""


def draw_camera(seed: int, faces: Tensor) -> Camera:
    """Draw poses as they are in collections of portraits: most within 20° of frontal, few beyond 40°.

    Args:
        seed: The data set's.
        faces: ``(batch,)`` int64 indices of pictures.

    Returns:
        :class:`Camera`; row i depends on ``seed`` and ``faces[i]`` alone. Distances are 45 to 300 cm.
    """
    kind, far = draw_uniform(seed, Purpose.CAMERA, faces, count=2).unbind(1)
    yaw, pitch, roll = to_normal(draw_uniform(seed, Purpose.POSE, faces, count=3)).unbind(1)
    yaw = yaw * torch.where(kind < 0.5, 9.0, 19.0)  # half of the pictures are nearly frontal, the other half is not
    pitch, roll = 7.0 * pitch - 1.0, 7.0 * roll
    distance = 45.0 * (300.0 / 45.0) ** far
    zero = torch.zeros_like(yaw)
    values = (yaw, pitch, roll, distance, torch.full_like(yaw, 8.0), zero, zero)
    return Camera(*(value.float() for value in values))


def rotation_of(camera: Camera) -> Tensor:
    """``(batch, 3, 3)`` from the head's coordinates to the camera's: yaw first, then pitch, then roll."""
    yaw, pitch, roll = (torch.deg2rad(angle) for angle in (camera.yaw, -camera.pitch, -camera.roll))
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)
    around_y = (yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    around_x = (one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos())
    around_z = (roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    turns = [torch.stack(rows, -1).unflatten(-1, (3, 3)) for rows in (around_z, around_x, around_y)]
    return turns[0] @ turns[1] @ turns[2]


def turn(points: Tensor, camera: Camera) -> Tensor:
    """Turn ``(batch, points, 3)`` of the head into the camera's directions, and move them to where the head stands.

    Centimetres, x to the viewer's right, y up, z to the viewer; the camera is at (0, 0, distance).
    """
    check_rank("turn", "points", points, ("batch", "points", "3"))
    check_size("turn", "points", points, 2, "coordinates", 3)
    x, y, z = points.unbind(-1)
    matrix = rotation_of(camera).to(points.dtype)[..., None]
    # sums written out: a matrix product rounds otherwise in another batch
    turned = [matrix[:, row, 0] * x + matrix[:, row, 1] * y + matrix[:, row, 2] * z for row in range(3)]
    return torch.stack((turned[0] + camera.right[:, None], turned[1] + camera.up[:, None], turned[2]), -1)


def project(turned: Tensor, camera: Camera, *, size: tuple[int, int]) -> Tensor:
    """Project what :func:`turn` gives.

    Returns:
        ``(batch, points, 3)``, x and y in pixels, whose centres lie at whole numbers, and depth in centimetres.

    Example:
        >>> import torch
        >>> camera = Camera(*(torch.tensor([value]) for value in (0.0, 0.0, 0.0, 100.0, 8.0, 0.0, 0.0)))
        >>> project(turn(torch.tensor([[[1.0, 0.0, 0.0]]]), camera), camera, size=(101, 101)).tolist()
        [[[58.0, 50.0, 100.0]]]
    """
    x, y, z = turned.unbind(-1)
    depth = camera.distance[:, None] - z
    focal = (camera.scale * camera.distance)[:, None] / depth
    return torch.stack(((size[1] - 1) / 2 + focal * x, (size[0] - 1) / 2 - focal * y, depth), -1)


def aligning_matrices(landmarks: Tensor, template: FaceTemplate, *, errors: Tensor | None = None) -> Tensor:
    """Give the similarities ``(batch, 2, 3)`` that an aligner would choose, which lay faces onto a template.

    Applied to projected vertices they let heads be drawn straight into the crop: no pixel is resampled.

    Args:
        landmarks: ``(batch, 5, 2)`` projected.
        template: What to lay them on.
        errors: ``(batch, 5, 2)`` of the detector, as shares of the distance between the eyes (:func:`draw_errors`).
    """
    if errors is not None:
        eyes = (landmarks[:, 0] - landmarks[:, 1]).norm(dim=-1)
        landmarks = landmarks + errors.to(landmarks) * eyes[:, None, None]
    points = template.tensor(dtype=landmarks.dtype, device=landmarks.device)
    return estimate_similarity(landmarks, points).matrices.to(landmarks.dtype)


def draw_errors(seed: int, faces: Tensor, *, spread: float = 0.025) -> Tensor:
    """Draw a detector's errors ``(batch, 5, 2)``, in shares of the distance between the eyes.

    Detectors are off by 2 to 4 % of it on photographs.
    """
    uniform = draw_uniform(seed, Purpose.POSE, faces, count=13)[:, 3:]
    return (spread * to_normal(uniform)).float().view(-1, 5, 2)


def apply_matrices(matrices: Tensor, pixels: Tensor) -> Tensor:
    """Carry x and y of ``(batch, points, 2 or 3)`` through similarities; depth stays."""
    return torch.cat((transform_points(matrices, pixels[..., :2]), pixels[..., 2:]), -1)
