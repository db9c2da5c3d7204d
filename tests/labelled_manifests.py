"""Manifests whose labels are drawn and whose files nobody opens, for tests of what works on labels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from facemtl.data.manifest import Manifest
from facemtl.data.packed_names import PackedNames


def manifest_with(
    identities: npt.ArrayLike, ages: npt.ArrayLike, genders: npt.ArrayLike, *, num_identities: int | None = None
) -> Manifest:
    """Face number i is called ``i.jpg``; identities keep their numbers."""
    people = np.asarray(identities, np.int64)
    count = num_identities if num_identities is not None else int(people.max(initial=-1)) + 1
    return Manifest(
        Path("faces"),
        PackedNames.pack([f"{index}.jpg" for index in range(len(people))]),
        people,
        np.asarray(ages, np.float32),
        np.asarray(genders, np.int8),
        PackedNames.pack(list(map(str, range(count)))),
    )


def drawn_manifest(seed: int, num_people: int, num_faces: int, *, unknown: float = 0.1) -> Manifest:
    """Each person has a gender and a span of ages; children and the old are rare, as in every collection."""
    random = np.random.default_rng(seed)
    people = random.integers(0, num_people, num_faces)
    gender, middle = random.integers(0, 2, num_people), random.normal(38, 16, num_people)
    ages = np.clip(middle[people] + random.normal(0, 8, num_faces), 0, 100)
    labels = [people, ages.astype(np.float32), gender[people].astype(np.int8)]
    for column, nothing in zip(labels, (-1, np.nan, -1), strict=True):
        column[random.random(num_faces) < unknown] = nothing
    return manifest_with(*labels, num_identities=num_people)
