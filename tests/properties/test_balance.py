"""A balanced part keeps each of its promises, whatever the labels are."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from facemtl.data.balance import BalancedSubset, balance_manifest
from facemtl.data.manifest import Manifest
from facemtl.layers.age import AgeGroups
from tests.labelled_manifests import drawn_manifest, manifest_with

TWO = AgeGroups((30.0,))


@st.composite
def small_labels(draw: st.DrawFn) -> list[tuple[int, float, int]]:
    """Faces of a few people in the four cells of two age groups, and some of which something is unknown."""
    people = draw(st.integers(1, 7))
    face = st.tuples(st.integers(-1, people - 1), st.sampled_from([5.0, 30.0, 30.5, 70.0, np.nan]), st.integers(-1, 1))
    return draw(st.lists(face, min_size=1, max_size=40))


def balanced(manifest: Manifest, least: int, seed: int = 0, max_faces: int | None = None) -> BalancedSubset | None:
    """None where there is nothing to find."""
    with contextlib.suppress(ValueError):
        return balance_manifest(
            manifest,
            min_faces_per_identity=least,
            max_faces=max_faces,
            age_groups=TWO,
            seed=seed,
            on_empty="leave_out",
        )
    return None


def cells_of(manifest: Manifest) -> Counter[tuple[bool, int]]:
    return Counter(zip((manifest.ages > 30).tolist(), manifest.genders.tolist(), strict=True))


@given(small_labels(), st.integers(1, 4), st.integers(0, 2**64 - 1), st.one_of(st.none(), st.integers(1, 40)))
def test_every_promise_is_kept(
    faces: list[tuple[int, float, int]], least: int, seed: int, max_faces: int | None
) -> None:
    manifest = manifest_with(*zip(*faces, strict=True))
    part = balanced(manifest, least, seed, max_faces)
    assume(part is not None)
    assert part is not None
    chosen = part.manifest
    assert part.faces_per_cell >= 1
    cells = cells_of(chosen)
    assert set(cells.values()) == {part.faces_per_cell}  # every cell that has a face at all
    assert len(cells) == 4 - len(part.left_out)
    assert part.faces_per_cell <= part.most_per_cell
    assert max_faces is None or len(chosen) <= max_faces
    assert not np.isnan(chosen.ages).any()
    assert (chosen.genders >= 0).all()
    assert np.bincount(chosen.identities).min() >= least  # a −1 would raise here
    assert (np.diff(part.indices) > 0).all()
    assert [chosen.filenames[at] for at in range(len(chosen))] == [
        manifest.filenames[at] for at in part.indices.tolist()
    ]
    np.testing.assert_array_equal(chosen.ages, manifest.ages[part.indices])
    np.testing.assert_array_equal(chosen.genders, manifest.genders[part.indices])
    owners = [chosen.identity_names[who] for who in chosen.identities.tolist()]
    assert owners == [str(who) for who in manifest.identities[part.indices].tolist()]


@given(small_labels(), st.integers(1, 4), st.integers(0, 2**64 - 1))
def test_the_same_seed_gives_the_same_part(faces: list[tuple[int, float, int]], least: int, seed: int) -> None:
    manifest = manifest_with(*zip(*faces, strict=True))
    one, other = balanced(manifest, least, seed), balanced(manifest, least, seed)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        np.testing.assert_array_equal(one.indices, other.indices)


@example(3, 1)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_what_is_balanced_already_stays_whole(seed: int, least: int) -> None:
    order = np.random.default_rng(seed).permutation(40)
    ages, genders = np.repeat([10, 50], 20)[order], np.tile([0, 1], 20)[order]
    part = balanced(manifest_with(np.tile(np.arange(4), 10)[order], ages, genders), least)
    assert part is not None
    assert part.indices.tolist() == list(range(40))


def test_one_face_is_enough_where_one_is_asked_for() -> None:
    """With k = 1 nothing stands in the way of the bound."""
    for seed in range(20):
        whole = drawn_manifest(seed, 300, 4000)
        part = balance_manifest(whole, min_faces_per_identity=1, seed=seed, on_empty="leave_out")
        assert part.faces_per_cell == part.most_per_cell


def test_seeds_draw_different_faces() -> None:
    whole = drawn_manifest(1, 200, 20_000)
    one, other = (balance_manifest(whole, seed=seed, on_empty="leave_out").indices for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("least", [2, 5, 20])
def test_a_collection_with_rare_children_keeps_nearly_all_of_them(least: int) -> None:
    whole = drawn_manifest(2, 500, 20_000)
    part = balance_manifest(whole, min_faces_per_identity=least, on_empty="leave_out", max_faces=None)
    assert part.faces_per_cell >= 0.9 * part.most_per_cell
