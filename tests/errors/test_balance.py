from __future__ import annotations

import numpy as np
import pytest

from facemtl.data.balance import balance_manifest
from facemtl.layers.age import AgeGroups
from tests.labelled_manifests import drawn_manifest, manifest_with


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_faces_per_identity": 0}, "'min_faces_per_identity' must be at least 1, got 0"),
        ({"max_faces": 0}, "'max_faces' must be at least 1, got 0"),
        ({"seed": -1}, r"'seed' must lie in \[0, 2\*\*64\), got -1"),
        ({"seed": 2**64}, r"'seed' must lie in \[0, 2\*\*64\), got 18446744073709551616"),
        ({"on_empty": "ignore"}, "'on_empty' must be \"raise\" or \"leave_out\", got 'ignore'"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"balance_manifest: {message}"):
        balance_manifest(drawn_manifest(0, 3, 30), **options)


def test_all_empty_cells_are_listed() -> None:
    manifest = manifest_with([0, 0, 0, 0, 1, 1, 2], [20, 20, 20, 20, 40, 40, 40], [0, 0, 1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match=r"people with at least 2; got none of 31\+ female\. Cut other groups"):
        balance_manifest(manifest, age_groups=AgeGroups((30,)))  # the one woman of 40 has one face
    part = balance_manifest(manifest, age_groups=AgeGroups((30,)), on_empty="leave_out", min_faces_per_identity=2)
    assert part.left_out == ("31+ female",)
    with pytest.raises(ValueError, match=r"got none of 10− female, 10− male, 11–20 female.*61\+ male"):
        balance_manifest(manifest_with([0], [34], [1]), min_faces_per_identity=1)


def test_nothing_to_choose_from_is_said() -> None:
    for labels in (([-1, 0], [30, 40], [1, 1]), ([0, 0], [30, np.nan], [1, 1]), ([0, 0], [30, 30], [-1, 1])):
        with pytest.raises(ValueError, match="'min_faces_per_identity' = 2 faces of known age and gender, got none"):
            balance_manifest(manifest_with(*labels), on_empty="leave_out")


def test_what_cannot_be_balanced_is_said_with_its_numbers() -> None:
    # Three faces of one person in one cell, one face in the other: equal cells would leave the person with two.
    manifest = manifest_with([0, 0, 0, 0], [20, 20, 20, 40], [1, 1, 1, 1])
    with pytest.raises(ValueError, match="'min_faces_per_identity' = 3 faces, got 4 faces to choose from and 1 in the"):
        balance_manifest(manifest, min_faces_per_identity=3, age_groups=AgeGroups((30,)), on_empty="leave_out")
    with pytest.raises(ValueError, match=r"within max_faces=1, got 4 faces"):
        balance_manifest(manifest, max_faces=1, age_groups=AgeGroups((30,)), on_empty="leave_out")
