"""What a face detector is here, and which of the faces it found to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from facemtl._core.checks import ShapeError, check_rank, check_values, shape_text
from facemtl._core.precision import widest_dtype
from facemtl.alignment.detection_input import photograph_sizes
from facemtl.alignment.similarity import LandmarkProblem, find_problems
from facemtl.alignment.templates import LANDMARKS, FaceTemplate

FacePolicy = Literal["largest", "most_central", "all", "error"]

# The line through the eyes and the line through the mouth corners point opposite ways when one pair alone is swapped.
_OPPOSITE = -0.5


class Detections(NamedTuple):
    """Faces found in a batch of photographs, those of an image together, the surest of an image first."""

    boxes: Float[Tensor, "faces 4"]
    """Left, top, right, bottom in pixels of the photograph, pixel centres at whole numbers; may reach outside."""

    scores: Float[Tensor, " faces"]
    """How sure the detector is, from 0 to 1; not comparable between detectors."""

    landmarks: Float[Tensor, "faces 5 2"]
    """(x, y) in the same pixels, in the order that the detector's ``landmark_order`` states."""

    image_index: Integer[Tensor, " faces"]
    """Which image each face is in, int64, rising. An image without a face has no row."""


@runtime_checkable
class FaceDetector(Protocol):
    """Anything that finds faces and five landmarks of each: what to write to bring a detector of your own.

    Example:
        >>> class Middle:  # finds one face in the middle of each image
        ...     landmark_order = LANDMARKS
        ...
        ...     def detect(self, images):
        ...         face = FaceTemplate.arcface().tensor(dtype=torch.float32)
        ...         count = len(images)
        ...         boxes = torch.tensor([[20.0, 20.0, 90.0, 100.0]]).expand(count, 4)
        ...         return Detections(boxes, torch.ones(count), face.expand(count, 5, 2), torch.arange(count))
        >>> isinstance(Middle(), FaceDetector)
        True
        >>> detect_faces(Middle(), torch.zeros(2, 3, 112, 112)).image_index
        tensor([0, 1])
    """

    @property
    def landmark_order(self) -> tuple[str, ...]:
        """The names of the five landmarks in the order that ``detect`` returns them.

        They are those of :data:`~facemtl.alignment.templates.LANDMARKS`, whose left is the viewer's.
        """

    def detect(self, images: Tensor | Sequence[Tensor], /) -> Detections:
        """Find the faces in RGB photographs, ``(images, 3, height, width)`` or a list of ``(3, height, width)``."""


def detect_faces(
    detector: FaceDetector, images: Tensor | Sequence[Tensor], *, policy: FacePolicy = "all"
) -> Detections:
    """Find faces with any detector, with their landmarks in facemtl's order, and keep those that ``policy`` says.

    Left and right are the commonest mistake between detectors (the person's or the viewer's), and crops of swapped
    landmarks look plausible: small and blurred. So a detector states its order, landmarks stated in another order
    are put into facemtl's, and landmarks that belie the statement are refused: a detector of which more than
    half of two or more faces are mirrored is not believed. (A single mirrored face passes; the aligner marks it.)

    Args:
        detector: A :class:`~facemtl.alignment.mtcnn.MTCNNDetector`, a
            :class:`~facemtl.alignment.yunet.YuNetDetector` or one of your own.
        images: RGB photographs, ``(images, 3, height, width)`` or a list of ``(3, height, width)`` of different
            sizes; uint8, or floats in [-1, 1].
        policy: Which faces to keep, as :func:`select_faces` has them.

    Returns:
        :class:`Detections` whose landmarks stand in the order of :data:`~facemtl.alignment.templates.LANDMARKS`.

    Raises:
        ShapeError: If what the detector returns has other shapes.
        ValueError: If it states an order that is none, if its landmarks are mirrored, or as ``policy`` says.
    """
    found = detector.detect(images)
    _check_detections("detect_faces", found)
    found = found._replace(landmarks=arrange_landmarks(found.landmarks, order=detector.landmark_order))
    swapped = int(swapped_landmarks(found.landmarks).sum())
    faces = len(found.scores)
    if swapped >= 2 and 2 * swapped > faces:
        raise ValueError(
            f"detect_faces: {type(detector).__name__} must return landmarks in the order it states, the viewer's left "
            f"first, got {swapped} of {faces} faces mirrored. State the person's left as the viewer's right in its "
            "'landmark_order'."
        )
    return select_faces(found, photograph_sizes("detect_faces", images), policy=policy)


def select_faces(
    detections: Detections,
    image_sizes: Sequence[tuple[int, int]] | Integer[Tensor, "images 2"],
    *,
    policy: FacePolicy = "largest",
) -> Detections:
    """Keep the faces that a policy says, for photographs in which none or several were found.

    Args:
        detections: What a detector found.
        image_sizes: (height, width) of each photograph.
        policy: ``"largest"`` keeps the face whose box covers most of its image, ``"most_central"`` the one whose box
            has its centre nearest the image's, ``"all"`` every face; ``"error"`` keeps every face and demands
            exactly one in each image. Between equals the surer face is kept. Images without a face have no row;
            :func:`images_without_faces` lists them.

    Returns:
        :class:`Detections` in the order of the images.

    Raises:
        ShapeError: If shapes disagree.
        ValueError: If ``policy`` is ``"error"`` and an image has no face or several: which ones; if an
            ``image_index`` names no image; if ``policy`` is none of the four.

    Example:
        >>> landmarks = FaceTemplate.arcface().tensor(dtype=torch.float32).expand(2, 5, 2)
        >>> boxes = torch.tensor([[0.0, 0.0, 50.0, 50.0], [90.0, 90.0, 110.0, 110.0]])
        >>> found = Detections(boxes, torch.tensor([0.9, 0.8]), landmarks, torch.tensor([1, 1]))
        >>> sizes = [(200, 200), (200, 200)]
        >>> select_faces(found, sizes, policy="most_central").boxes
        tensor([[ 90.,  90., 110., 110.]])
        >>> images_without_faces(found, len(sizes))
        [0]
    """
    where = "select_faces"
    if policy not in get_args(FacePolicy):
        raise ValueError(f"{where}: 'policy' must be one of {get_args(FacePolicy)}, got {policy!r}.")
    _check_detections(where, detections)
    index = detections.image_index
    sizes = torch.as_tensor(image_sizes, device=index.device).reshape(-1, 2)
    check_values(
        (index >= 0) & (index < len(sizes)),
        index,
        f"{where}: 'image_index' must lie in [0, images) = [0, {len(sizes)})",
        at_once=True,
    )
    if policy == "error":
        _raise_unless_one(torch.bincount(index, minlength=len(sizes)))
    extent = sizes.to(detections.boxes)[index]
    if policy == "largest":
        preference = _visible_area(detections.boxes, extent)
    elif policy == "most_central":
        preference = -_distance_from_centre(detections.boxes, extent)
    else:
        preference = detections.scores
    order = detections.scores.argsort(descending=True, stable=True)
    order = order[preference[order].argsort(descending=True, stable=True)]
    order = order[index[order].argsort(stable=True)]
    if policy in ("largest", "most_central"):
        ranked = index[order]
        first = torch.ones_like(ranked, dtype=torch.bool)
        first[1:] = ranked[1:] != ranked[:-1]
        order = order[first]
    return Detections(*(column[order] for column in detections))


def images_without_faces(detections: Detections, num_images: int) -> list[int]:
    """Which of ``num_images`` photographs have no face among ``detections``."""
    counts = torch.bincount(detections.image_index, minlength=num_images)
    return (counts[:num_images] == 0).nonzero().flatten().tolist()


def arrange_landmarks(landmarks: Float[Tensor, "faces 5 2"], *, order: Sequence[str]) -> Float[Tensor, "faces 5 2"]:
    """Put landmarks that stand in another order into that of :data:`~facemtl.alignment.templates.LANDMARKS`.

    Args:
        landmarks: (x, y) of the five landmarks of each face.
        order: Their names as they stand, the five of LANDMARKS.

    Raises:
        ValueError: If ``order`` does not have each of the five names once.

    Example:
        >>> points = torch.arange(5.0).reshape(1, 5, 1).expand(1, 5, 2)
        >>> order = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
        >>> arrange_landmarks(points, order=order)[0, :, 0]
        tensor([1., 0., 2., 4., 3.])
    """
    if sorted(order) != sorted(LANDMARKS):
        raise ValueError(
            f"arrange_landmarks: 'order' must have each of {LANDMARKS} once, got {tuple(order)}. "
            "Left and right are the viewer's."
        )
    return landmarks[:, [list(order).index(name) for name in LANDMARKS]]


def swapped_landmarks(landmarks: Float[Tensor, "faces 5 2"]) -> Bool[Tensor, " faces"]:
    """Tell the faces whose landmarks have left and right swapped: both pairs, the eyes alone or the mouth alone.

    No turn of the head in the picture makes a face look like its mirror image, so a face that a reflection explains
    better than a turn has its landmarks in the wrong order (or is no face). Landmarks that are not finite, coincide
    or lie on one line are not judged.

    Args:
        landmarks: (x, y) in the order of :data:`~facemtl.alignment.templates.LANDMARKS`.

    Example:
        >>> face = FaceTemplate.arcface().tensor()[None]
        >>> swapped_landmarks(torch.cat((face, face[:, [1, 0, 2, 4, 3]], face[:, [1, 0, 2, 3, 4]])))
        tensor([False,  True,  True])
    """
    points = landmarks.detach().to(widest_dtype(landmarks))
    template = FaceTemplate.arcface().tensor().to(points).expand_as(points)
    problems = find_problems(points, template, torch.full_like(points[..., 0], 0.2))
    eyes, mouth = points[:, 1] - points[:, 0], points[:, 4] - points[:, 3]
    opposite = (eyes * mouth).sum(-1) < _OPPOSITE * eyes.norm(dim=-1) * mouth.norm(dim=-1)
    sound = problems == LandmarkProblem.NONE
    return (problems == LandmarkProblem.MIRRORED) | (sound & opposite)


def _visible_area(boxes: Tensor, extent: Tensor) -> Tensor:
    """Area of each box inside its image."""
    height, width = extent.unbind(-1)
    left, top, right, bottom = boxes.unbind(-1)
    across = torch.minimum(right, width - 0.5) - left.clamp_min(-0.5)
    down = torch.minimum(bottom, height - 0.5) - top.clamp_min(-0.5)
    return across.clamp_min(0) * down.clamp_min(0)


def _distance_from_centre(boxes: Tensor, extent: Tensor) -> Tensor:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return (centre - (extent.flip(-1) - 1) / 2).norm(dim=-1)


def _raise_unless_one(counts: Tensor) -> None:
    complaints = []
    for text, wrong in (("no face", counts == 0), ("several faces", counts > 1)):
        indices = wrong.nonzero().flatten().tolist()
        if indices:
            more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
            complaints.append(f"{text} in image{'s' * (len(indices) > 1)} {', '.join(map(str, indices[:5]))}{more}")
    if complaints:
        raise ValueError(
            f"select_faces: each image must have one face under policy='error', got {' and '.join(complaints)}. "
            "Drop these images, or pass policy='largest' or 'most_central'."
        )


def _check_detections(where: str, found: Detections) -> None:
    check_rank(where, "image_index", found.image_index, ("faces",))
    faces = len(found.image_index)
    for name, shape in (("boxes", (faces, 4)), ("scores", (faces,)), ("landmarks", (faces, 5, 2))):
        tensor = getattr(found, name)
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"{where}: '{name}' must have shape {shape}, got {shape_text(tensor)}.")
