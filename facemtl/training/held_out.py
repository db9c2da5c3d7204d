"""How a model does on people that it never saw: recognition, age and synthesis, by simple means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facemtl.networks.mtlface import MTLFace
from facemtl.training.seen_faces import JudgedSynthesis, LabelledFaces, SeenFaces, judge_synthesis, look_at
from facemtl.training.verification_pairs import FOLDS, FacePairs, accuracy_over_folds, area_under_curve, draw_pairs

YEARS_APART = 20.0
"""Least difference of age of the pairs across ages."""


@dataclass(frozen=True, kw_only=True)
class HeldOutFigures:
    """How a model does on people that it never saw. What concerns synthesized faces is judged by the model itself.

    None stands for what cannot be said: no ages are known, or the model has no generator.
    """

    faces: int
    """Faces looked at."""
    people: int
    """People among them."""
    pairs: int
    """Pairs of the verification, half of them of one person."""
    auc: float
    """Chance that a pair of one person is more similar than a pair of two people; 0.5 is guessing, 1 perfect."""
    accuracy: float
    """Share of pairs told right, at the threshold that was best on the nine other tenths of the pairs."""
    pairs_across_ages: int
    """Pairs whose ages are at least 20 years apart."""
    auc_across_ages: float | None
    """``auc`` of those pairs alone; None with fewer than ten of a kind."""
    same_person_similarity: float
    """Mean cosine of the pairs of one person."""
    two_people_similarity: float
    """Mean cosine of the pairs of two people."""
    faces_of_known_age: int
    """Faces by which the age is judged."""
    age_error: float | None
    """Mean absolute error of the estimated age, in years."""
    age_within_5_years: float | None
    """Share of faces whose estimated age is off by 5 years or less."""
    age_error_of_median: float | None
    """Mean absolute error, in years, of always saying the median age of these faces."""
    synthesized: int
    """Faces that were shown at all ages."""
    group_labels: tuple[str, ...]
    """Target groups, in the order of what follows."""
    age_accuracy: float | None
    """Share of synthesized faces whose age, as the model's own age head sees it, lies in the target group."""
    age_accuracy_by_group: tuple[float, ...]
    """The same for each target group."""
    identity_preservation: float | None
    """Mean cosine of the embeddings of input and synthesized face, by the model's own recogniser."""
    identity_preservation_by_group: tuple[float, ...]
    """The same for each target group."""
    pixel_change: float | None
    """Mean absolute difference of input and synthesized face, in levels of 0 to 255."""
    pixel_change_by_group: tuple[float, ...]
    """The same for each target group."""

    def to_dict(self) -> dict[str, Any]:
        """Give the figures as plain numbers, lists and None, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def held_out_figures(
    model: MTLFace,
    dataset: LabelledFaces,
    *,
    batch_size: int = 64,
    pairs: int = 3000,
    most_faces: int = 4096,
    synthesized_faces: int = 256,
    seed: int = 0,
) -> HeldOutFigures:
    """Judge a model on people that it never saw: verification, age error, and what its generator does.

    Simple figures for the end of a run. Verification draws as many pairs of one person as of two, with flip-averaged
    embeddings, and chooses its threshold by ten folds of the pairs; unlike the field's protocols, folds may share
    people. **The model judges itself**: the ages and identities of synthesized faces are read by its own age head and
    recogniser, for which the generator was trained, and which it may please without pleasing anybody else. A generator
    that changes nothing preserves identity perfectly: read that figure together with age accuracy and pixel change.

    Call it once more with an untrained model of the same shape to see what the figures are worth. Both see the same
    faces and the same pairs. Runs in eval mode without gradients; the model's mode stays as it was. Faces that stand in
    for broken images are left out.

    Args:
        model: Any MTLFace; without a generator, what concerns synthesis is None.
        dataset: Faces of people held out; unknown identities and ages are left out of what needs them.
        batch_size: Faces in one forward pass, at least 1.
        pairs: Most pairs of one person, and as many of two, at least 10.
        most_faces: Of a larger data set, so many faces are looked at: of people drawn by ``seed``.
        synthesized_faces: Most faces to be shown at all ages, drawn by ``seed``; 0 leaves synthesis out.
        seed: Of all draws.

    Returns:
        The figures.

    Raises:
        ValueError: If an option is out of its range, there is no face or there are too few pairs, or the model gives
            embeddings or ages that are not finite.

    References:
        MTLFace, CVPR 2021, section 4, which judges synthesis by independent networks instead.

    Example:
        >>> from facemtl.data.bundled import bundled_faces
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> figures = held_out_figures(model, bundled_faces(), most_faces=48, synthesized_faces=2)
        >>> figures.faces, figures.people, figures.synthesized, len(figures.age_accuracy_by_group)
        (48, 6, 2, 7)
    """
    _check(batch_size=batch_size, pairs=pairs, most_faces=most_faces, synthesized_faces=synthesized_faces)
    places = _chosen_faces(dataset.columns.identities, most_faces, seed)
    seen = look_at(model, dataset, places, batch_size)
    drawn = draw_pairs(seen.identities, pairs=pairs, seed=seed)
    shown = seen.places[np.random.default_rng(seed).permutation(len(seen.places))[:synthesized_faces]]
    judged = judge_synthesis(model, dataset, shown if model.generator is not None else shown[:0], batch_size)
    return HeldOutFigures(
        faces=len(seen.places),
        people=len(np.unique(seen.identities[seen.identities >= 0])),
        **_verification(seen, drawn, seed),
        **_ages(seen),
        group_labels=model.age_groups.labels,
        **_synthesis(judged),
    )


def _check(**options: int) -> None:
    least = {"batch_size": 1, "pairs": FOLDS, "most_faces": 1, "synthesized_faces": 0}
    for name, value in options.items():
        if value < least[name]:
            raise ValueError(f"held_out_figures: '{name}' must be at least {least[name]}, got {value}.")


def _chosen_faces(identities: npt.NDArray[np.integer], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Places of the faces to look at: whole people drawn by ``seed``, as far as they fit, then the nameless."""
    if not len(identities):
        raise ValueError("held_out_figures: 'dataset' must hold at least one face, got none.")
    if len(identities) <= most:
        return np.arange(len(identities))
    people, owners = np.unique(identities, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(people))
    order[people < 0] = len(people)
    return np.sort(np.argsort(order[owners], kind="stable")[:most])


def _verification(seen: SeenFaces, drawn: FacePairs, seed: int) -> dict[str, Any]:
    scores = (seen.embeddings[drawn.first] * seen.embeddings[drawn.second]).sum(axis=1)
    apart = np.abs(seen.ages[drawn.first] - seen.ages[drawn.second]) >= YEARS_APART  # false where an age is unknown
    of_one = int(drawn.same[apart].sum())
    enough = min(of_one, int(apart.sum()) - of_one) >= FOLDS
    return {
        "pairs": len(scores),
        "auc": area_under_curve(scores, drawn.same),
        "accuracy": accuracy_over_folds(scores, drawn.same, seed=seed),
        "pairs_across_ages": int(apart.sum()),
        "auc_across_ages": area_under_curve(scores[apart], drawn.same[apart]) if enough else None,
        "same_person_similarity": float(scores[drawn.same].mean()),
        "two_people_similarity": float(scores[~drawn.same].mean()),
    }


def _ages(seen: SeenFaces) -> dict[str, Any]:
    known = np.isfinite(seen.ages)
    ages, errors = seen.ages[known], np.abs(seen.estimates - seen.ages)[known]
    return {
        "faces_of_known_age": len(ages),
        "age_error": float(errors.mean()) if len(ages) else None,
        "age_within_5_years": float((errors <= 5.0).mean()) if len(ages) else None,
        "age_error_of_median": float(np.abs(ages - np.median(ages)).mean()) if len(ages) else None,
    }


def _synthesis(judged: JudgedSynthesis) -> dict[str, Any]:
    figures: dict[str, Any] = {"synthesized": len(judged.hits)}
    for name, table in zip(("age_accuracy", "identity_preservation", "pixel_change"), judged, strict=True):
        figures[name] = float(table.mean()) if len(table) else None
        figures[f"{name}_by_group"] = tuple(table.mean(dim=0).tolist()) if len(table) else ()
    return figures
