"""Places for people against scipy's maximum flow, and balanced parts against the best there is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from facemtl.data.balance import balance_manifest
from facemtl.data.identity_places import IdentityPlaces
from facemtl.data.manifest import read_manifest
from facemtl.layers.age import AgeGroups
from tests.conftest import SHARED
from tests.labelled_manifests import manifest_with

Counts = npt.NDArray[np.int64]


def all_fit(counts: Counts, people: list[int], room: int, wanted: int) -> bool:
    """Whether these people can have ``wanted`` faces each, by scipy: source, people, cells, sink."""
    num, cells = len(people), counts.shape[1]
    graph = np.zeros((num + cells + 2, num + cells + 2), np.int32)
    graph[0, 1 : num + 1] = wanted
    graph[1 : num + 1, num + 1 : -1] = counts[people]
    graph[num + 1 : -1, -1] = room
    return maximum_flow(csr_array(graph), 0, num + cells + 1).flow_value == num * wanted


def drawn_counts(random: np.random.Generator) -> Counts:
    shape = (random.integers(1, 12), random.integers(1, 6))
    counts = random.integers(0, 5, shape)
    counts[random.random(shape) < random.uniform(0, 0.8)] = 0
    return counts


@pytest.mark.parametrize("seed", range(300))
def test_a_person_is_refused_only_if_there_is_no_way(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts, room, wanted = drawn_counts(random), int(random.integers(0, 8)), int(random.integers(1, 5))
    places = IdentityPlaces(counts.tolist(), room, wanted)
    added: list[int] = []
    for person in random.permutation(len(counts)).tolist():
        fits = all_fit(counts, [*added, person], room, wanted)
        assert places.add([person]) == ([person] if fits else [])
        added += [person] if fits else []
        placed = np.array(places.placed).reshape(counts.shape)
        assert (placed <= counts).all()
        assert (placed.sum(axis=0) <= room).all()
        assert placed.sum(axis=1).tolist() == [wanted if who in added else 0 for who in range(len(counts))]


def best_per_cell(counts: Counts, least: int) -> int:
    """Most faces of each cell of any balanced part, by integer programming over faces kept and people kept."""
    people, cells = counts.shape
    kept, num = people * cells, people * cells + people + 1  # faces kept, person kept, faces of each cell
    rows, low, high = [], [], []
    for cell in range(cells):
        row = np.zeros(num)
        row[cell:kept:cells], row[-1] = 1, -1
        rows, low, high = [*rows, row], [*low, 0], [*high, 0]
    for person in range(people):
        row = np.zeros(num)
        row[person * cells : (person + 1) * cells], row[kept + person] = 1, -least
        rows, low, high = [*rows, row], [*low, 0], [*high, np.inf]
        for cell in range(cells):
            row = np.zeros(num)
            row[person * cells + cell], row[kept + person] = 1, -counts[person, cell]
            rows, low, high = [*rows, row], [*low, -np.inf], [*high, 0]
    objective = np.zeros(num)
    objective[-1] = -1
    upper = np.concatenate((counts.reshape(-1), np.ones(people), [counts.sum()]))
    solved = milp(
        objective, constraints=LinearConstraint(np.array(rows), low, high), bounds=Bounds(0, upper), integrality=1
    )
    assert solved.success
    return round(-solved.fun)


@pytest.mark.parametrize("seed", range(4))
def test_balanced_parts_are_near_the_best_and_never_above(seed: int) -> None:
    random, ours, best, found, possible = np.random.default_rng(seed), 0, 0, 0, 0
    for _ in range(60):
        counts = random.integers(0, 4, (random.integers(2, 9), 4)) * (random.random((1, 4)) < 0.9)
        least = int(random.integers(1, 6))
        counts = counts[counts.sum(axis=1) >= least]
        counts = counts[:, counts.sum(axis=0) > 0]
        if counts.size == 0:
            continue
        people, cells = np.nonzero(np.ones(counts.shape, np.int64))
        who, cell = np.repeat(people, counts.reshape(-1)), np.repeat(cells, counts.reshape(-1))
        manifest = manifest_with(who, np.where(cell < 2, 20, 40), cell % 2)
        optimum = best_per_cell(counts, least)
        try:
            part = balance_manifest(
                manifest, min_faces_per_identity=least, age_groups=AgeGroups((30,)), on_empty="leave_out"
            )
            number = part.faces_per_cell
            left_out = np.setdiff1d(np.arange(len(counts)), manifest.identities[part.indices]).tolist()
            kept = np.unique(manifest.identities[part.indices]).tolist()
            assert not any(all_fit(counts, [*kept, person], number, least) for person in left_out)
        except ValueError:
            number = 0
        assert number <= optimum
        ours, best, found, possible = ours + number, best + optimum, found + (number > 0), possible + (optimum > 0)
    print(f"balanced parts: {ours} of {best} faces of a cell, {found} of {possible} found")
    assert ours >= 0.97 * best


@pytest.mark.parametrize("least", [1, 2, 3])
def test_real_photographs_with_a_single_girl_can_be_balanced(least: int) -> None:
    """One face of each cell, of people with up to three faces each: integer programming says that there is a way."""
    labels = SHARED / "faces" / "lfw" / "labels.txt"
    if not labels.is_file():
        pytest.skip("the real photographs are not on this machine")
    manifest = read_manifest(labels, check_files=False)
    part = balance_manifest(manifest, min_faces_per_identity=least, on_empty="leave_out")
    assert (part.faces_per_cell, part.most_per_cell, part.left_out) == (1, 1, ("10− male",))
    assert np.bincount(part.manifest.identities).min() >= least
