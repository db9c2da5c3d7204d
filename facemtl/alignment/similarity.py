"""The similarity (turn, scale, shift) that carries landmarks of a photograph onto a template, in closed form."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from facemtl._core.checks import ShapeError, check_floating, check_rank, check_values, shape_text
from facemtl._core.precision import at_least_float32, widest_dtype

# Points whose spread is this small a share of their largest coordinate differ by rounding only.
_COINCIDENT = 1e-5
# Collinear: across their main axis the points spread less than this share of the spread along it.
_COLLINEAR = 1e-2
# Mirrored: a reflection explains the points this much better than a turn. Profiles stay below 1, a swapped
# left and right of a frontal face reaches 4.
_MIRRORED = 1.25


class LandmarkProblem(IntEnum):
    """Why no similarity could be trusted for a face; 0 is none."""

    NONE = 0
    NOT_FINITE = 1
    COINCIDENT = 2
    COLLINEAR = 3
    MIRRORED = 4

    def describe(self) -> str:
        """What is wrong, as a message or a list of rejected files says it."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    LandmarkProblem.NONE: "landmarks are sound",
    LandmarkProblem.NOT_FINITE: "landmarks are not finite",
    LandmarkProblem.COINCIDENT: "landmarks coincide",
    LandmarkProblem.COLLINEAR: "landmarks lie on one line",
    LandmarkProblem.MIRRORED: "landmarks are mirrored: left and right are swapped",
}


class Similarity(NamedTuple):
    """A similarity for each face, and whether to trust it."""

    matrices: Tensor
    """``(faces, 2, 3)``, source to target, as (x, y, 1) columns want it; the identity where ``valid`` is false."""

    valid: Tensor
    """``(faces,)`` Bool, whether the points determine a similarity."""

    problems: Tensor
    """``(faces,)`` int64, a :class:`LandmarkProblem` for each face."""

    residuals: Tensor
    """``(faces,)``, root mean square distance of the carried points from the target in its pixels; 0 if not valid."""


def estimate_similarity(
    source: Float[Tensor, "faces points 2"],
    target: Float[Tensor, "points 2"] | Float[Tensor, "faces points 2"],
    *,
    weights: Float[Tensor, " points"] | Float[Tensor, "faces points"] | None = None,
    invalid: Literal["mask", "error"] = "mask",
) -> Similarity:
    r"""Fit the similarity that carries ``source`` onto ``target`` with the least weighted square error.

    As complex numbers, centred on their weighted means, the points are related by one complex factor, whose modulus
    is the scale and whose argument is the turn:

    .. math:: a = \frac{\sum_i p_i \bar{z}_i w_i}{\sum_i p_i |z_i|^2}

    This is Umeyama's solution without its singular value decomposition: it cannot be a reflection, costs a few sums
    and has a gradient everywhere. Sums run in float64 (float32 on MPS, which has no more), whatever autocast says.

    A face whose points are not finite, coincide, lie on one line (three or more, unless the target's do too) or
    are mirrored has no similarity to be trusted: what libraries return for it is a plausible, wrong crop. Its
    row becomes the identity without gradient and says why.

    Args:
        source: Points in the photograph, (x, y) in pixels, two or more.
        target: Points in the crop: one set for all faces, or one for each.
        weights: Trust in each point, at least 0; only proportions matter. A point of weight 0 is ignored, NaN or not.
        invalid: ``"mask"`` reports bad faces in the result; ``"error"`` raises (which reads the device).

    Returns:
        :class:`Similarity` in the dtype of ``source`` (float32 for half precision).

    Raises:
        ShapeError: If shapes disagree or there are fewer than two points.
        TypeError: If a tensor is not floating point.
        ValueError: If a weight is negative or NaN; if ``invalid`` is ``"error"`` and a face is bad: its index and why;
            if ``invalid`` is neither of the two.

    Example:
        >>> from facemtl.alignment.templates import FaceTemplate
        >>> template = FaceTemplate.arcface().tensor()
        >>> photograph = (2 * template + 30)[None]  # a face twice as large, 30 pixels off
        >>> fit = estimate_similarity(photograph, template)
        >>> transform_points(fit.matrices, photograph)[0, 0].sub(template[0]).abs().max() < 1e-9
        tensor(True)
        >>> bool(estimate_similarity(photograph[:, [1, 0, 2, 4, 3]], template).valid)
        False

    References:
        Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns (PAMI 1991).
    """
    if invalid not in ("mask", "error"):
        raise ValueError(f"estimate_similarity: 'invalid' must be 'mask' or 'error', got {invalid!r}.")
    _check_points(source, target, weights)
    working = widest_dtype(source)
    z = source.to(working)
    w = target.to(z).expand_as(z)
    p = torch.ones_like(z[..., 0]) if weights is None else weights.to(z).expand_as(z[..., 0])
    z = torch.where((p > 0).unsqueeze(-1), z, 0.0)
    p = p / p.sum(-1, keepdim=True).clamp_min(torch.finfo(working).tiny)

    problems = find_problems(z.detach(), w.detach(), p.detach())
    valid = problems == int(LandmarkProblem.NONE)  # torch.compile compares a tensor with an enum member as objects
    if invalid == "error":
        raise_problems("estimate_similarity", "source", problems)
    # Bad faces are fitted to themselves: the identity, and no NaN that would poison the gradient of their neighbours.
    z = torch.where(valid[:, None, None], z, w)
    matrices, residuals = _fit(z, w, p)
    result = at_least_float32(source).dtype
    identity = torch.eye(2, 3, dtype=working, device=z.device)
    matrices = torch.where(valid[:, None, None], matrices, identity)
    return Similarity(matrices.to(result), valid, problems, torch.where(valid, residuals, 0.0).to(result))


def find_problems(source: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """``(faces,)`` int64 :class:`LandmarkProblem`; ``weights`` sum to 1 or are all 0."""
    finite = (source.isfinite() & target.isfinite()).flatten(1).all(1)
    safe = torch.where(finite[:, None, None], source, 0.0)
    aim = torch.where(finite[:, None, None], target, 0.0)
    across, along = _spreads(safe, weights)
    target_across, target_along = _spreads(aim, weights)
    size = safe.abs().flatten(1).amax(1).clamp_min(1.0)
    turn, reflection = _correlations(safe, aim, weights)
    several = (weights > 0).sum(1) > 2
    bent = target_across > _COLLINEAR * target_along
    problems = torch.zeros_like(finite, dtype=torch.int64)
    for problem, found in (
        (LandmarkProblem.MIRRORED, reflection > _MIRRORED * turn),
        (LandmarkProblem.COLLINEAR, several & bent & (across < _COLLINEAR * along)),
        (LandmarkProblem.COINCIDENT, (along <= _COINCIDENT * size) | (weights.sum(1) <= 0)),
        (LandmarkProblem.NOT_FINITE, ~finite),
    ):
        problems = torch.where(found, int(problem), problems)
    return problems


def raise_problems(where: str, name: str, problems: Tensor) -> None:
    """Raise :class:`ValueError` naming the bad faces and why; reads the device."""
    bad = problems.nonzero().flatten().tolist()
    if bad:
        listed = ", ".join(f"face {i}: {LandmarkProblem(int(problems[i])).describe()}" for i in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"{where}: '{name}' must determine a similarity for each face, got {listed}{more}. "
            "Drop these faces, or pass invalid='mask' and use what is valid."
        )


def transform_points(
    matrices: Float[Tensor, "faces 2 3"], points: Float[Tensor, "faces points 2"]
) -> Float[Tensor, "faces points 2"]:
    """Carry points, (x, y) in pixels, through an affine map for each face.

    Args:
        matrices: As :func:`estimate_similarity` gives them.
        points: Any number of points for each face.

    Example:
        >>> shift = torch.tensor([[[1.0, 0.0, 5.0], [0.0, 1.0, -3.0]]])
        >>> transform_points(shift, torch.zeros(1, 1, 2)).tolist()
        [[[5.0, -3.0]]]
    """
    x, y = points[..., 0], points[..., 1]
    columns = matrices.unsqueeze(1)
    return columns[..., 0] * x.unsqueeze(-1) + columns[..., 1] * y.unsqueeze(-1) + columns[..., 2]


def invert_similarity(matrices: Float[Tensor, "faces 2 3"]) -> Float[Tensor, "faces 2 3"]:
    """Return the maps from crop to photograph.

    Args:
        matrices: Similarities as :func:`estimate_similarity` gives them; their scale must not be 0.

    Example:
        >>> half = torch.tensor([[[0.5, 0.0, 1.0], [0.0, 0.5, 0.0]]])
        >>> transform_points(invert_similarity(half), torch.tensor([[[3.0, 1.0]]])).tolist()
        [[[4.0, 2.0]]]
    """
    cosine, sine, x, y = matrices[:, 0, 0], matrices[:, 1, 0], matrices[:, 0, 2], matrices[:, 1, 2]
    square = cosine.square() + sine.square()
    cosine, sine = cosine / square, sine / square
    rows = (cosine, sine, -cosine * x - sine * y, -sine, cosine, sine * x - cosine * y)
    return torch.stack(rows, 1).unflatten(1, (2, 3))


def _fit(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    p = weights.unsqueeze(-1)
    centre, aim = (p * source).sum(1), (p * target).sum(1)
    z, w = source - centre.unsqueeze(1), target - aim.unsqueeze(1)
    square = (p * z.square()).sum((1, 2)).clamp_min(torch.finfo(z.dtype).tiny)
    cosine = (p * z * w).sum((1, 2)) / square
    sine = (weights * (z[..., 0] * w[..., 1] - z[..., 1] * w[..., 0])).sum(1) / square
    x = aim[:, 0] - cosine * centre[:, 0] + sine * centre[:, 1]
    y = aim[:, 1] - sine * centre[:, 0] - cosine * centre[:, 1]
    matrices = torch.stack((cosine, -sine, x, sine, cosine, y), 1).unflatten(1, (2, 3))
    distance = (p * (transform_points(matrices, source) - target).square()).sum((1, 2))
    return matrices, distance.detach().sqrt()


def _spreads(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation across and along the main axis of each face's points."""
    centred = points - (weights.unsqueeze(-1) * points).sum(1, keepdim=True)
    xx, yy = (weights.unsqueeze(-1) * centred.square()).sum(1).unbind(-1)
    xy = (weights * centred[..., 0] * centred[..., 1]).sum(1)
    middle, half = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    return (middle - half).clamp_min(0).sqrt(), (middle + half).sqrt()


def _correlations(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """How well the best turn, and the best reflection, explain ``target``."""
    p = weights.unsqueeze(-1)
    z = source - (p * source).sum(1, keepdim=True)
    w = target - (p * target).sum(1, keepdim=True)
    (zx, zy), (wx, wy) = z.unbind(-1), w.unbind(-1)
    turn = torch.hypot((weights * (zx * wx + zy * wy)).sum(1), (weights * (zx * wy - zy * wx)).sum(1))
    reflection = torch.hypot((weights * (zx * wx - zy * wy)).sum(1), (weights * (zx * wy + zy * wx)).sum(1))
    return turn, reflection


def _check_points(source: Tensor, target: Tensor, weights: Tensor | None) -> None:
    where = "estimate_similarity"
    check_rank(where, "source", source, ("faces", "points", "2"), advice="Add an axis with source.unsqueeze(0).")
    check_floating(where, "source", source)
    check_floating(where, "target", target)
    faces, points, axes = source.shape
    if axes != 2 or points < 2:
        raise ShapeError(
            f"{where}: 'source' must have shape (faces, points, 2) with two points or more, got {shape_text(source)}."
        )
    if tuple(target.shape) not in ((points, 2), (faces, points, 2)):
        raise ShapeError(
            f"{where}: 'target' must have shape {(points, 2)} or {(faces, points, 2)}, got {shape_text(target)}."
        )
    if weights is not None:
        check_floating(where, "weights", weights)
        if tuple(weights.shape) not in ((points,), (faces, points)):
            raise ShapeError(
                f"{where}: 'weights' must have shape {(points,)} or {(faces, points)}, got {shape_text(weights)}."
            )
        check_values((weights >= 0) & weights.isfinite(), weights, f"{where}: 'weights' must be finite and at least 0")
