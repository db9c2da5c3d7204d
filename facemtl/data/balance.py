"""A part of a manifest in which all ages and both genders are equally frequent."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.identity_places import IdentityPlaces
from facemtl.data.label_columns import age_group_column
from facemtl.data.manifest import Manifest
from facemtl.data.random_words import LARGEST_SEED, random_words
from facemtl.layers.age import AgeGroups

_WHERE = "balance_manifest"
_PURPOSE = 12
_TRIES = 24  # orders in which people are tried, before fewer faces a cell are
_NEAR = 0.9  # share of the faces a cell at which fewer are as good as another try
_Places = npt.NDArray[np.int64]


class BalancedSubset(NamedTuple):
    """A balanced part of a manifest, and what it cost."""

    manifest: Manifest
    """The chosen faces, in the order of the whole manifest; identities are numbered anew."""

    indices: npt.NDArray[np.int64]
    """Their places in the whole manifest, rising."""

    faces_per_cell: int
    """Faces of each age group of each gender."""

    most_per_cell: int
    """The faces, in the rarest cell, of people who have enough; no balanced part has more a cell."""

    left_out: tuple[str, ...]
    """Cells without such a face, left out on request."""


def balance_manifest(
    manifest: Manifest,
    *,
    min_faces_per_identity: int = 2,
    max_faces: int | None = None,
    age_groups: AgeGroups | None = None,
    seed: int = 0,
    on_empty: Literal["raise", "leave_out"] = "raise",
) -> BalancedSubset:
    r"""Choose faces so that each age group has equally many of each gender, and nobody has just a few.

    The paper's SCAF was made so, from a larger set. A cell is an age group of one gender. What is guaranteed:

    * every cell has the same number of faces exactly, ``faces_per_cell``; each face is taken once at most, and its age,
      gender and identity are known;
    * each person in the part has at least ``min_faces_per_identity`` faces *in the part*;
    * nobody is left out who could be added: no other person has so many faces for which those chosen could make room
      in cells of this size;
    * the same labels and seed give the same part, on every machine and NumPy.

    Not guaranteed is that ``faces_per_cell`` is the largest possible, which is a hard combinatorial problem; compare it
    with ``most_per_cell``. People whose faces are in rare cells are taken first, which favours children and the old;
    beyond that, people and faces are drawn at random. To balance without throwing faces away, draw batches by
    :class:`facemtl.BalancedSampler`.

    Args:
        manifest: The whole.
        min_faces_per_identity: k, least faces of each person, at least 1.
        max_faces: Most faces of the part; by default as many as can be.
        age_groups: Where ages are cut; the paper's seven groups by default.
        seed: Of the draw, 0 to 2⁶⁴ − 1.
        on_empty: What becomes of cells without a face of anybody who has k: ``"raise"``, or ``"leave_out"`` to balance
            the others.

    Returns:
        :class:`~facemtl.data.balance.BalancedSubset`.

    Raises:
        ValueError: If cells are empty (all of them are listed), an option is out of its range, or no balanced part was
            found.

    Example:
        >>> import tempfile, pathlib
        >>> from facemtl.data.manifest import read_manifest
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.txt"
        >>> lines = [f"{i % 4} {i}.jpg {10 * (i % 7) + 5} {i % 2}" for i in range(100)]
        >>> _ = path.write_text("\n".join([*lines, "9 once.jpg 31 1"]))
        >>> part = balance_manifest(read_manifest(path, check_files=False))
        >>> part.faces_per_cell, len(part.manifest), part.manifest.num_identities
        (7, 98, 4)
    """
    age_groups = age_groups if age_groups is not None else AgeGroups()
    _check_options(min_faces_per_identity, max_faces, seed, on_empty)
    groups = age_group_column(_WHERE, manifest.ages, age_groups)
    usable = (groups >= 0) & (manifest.genders >= 0) & (manifest.identities >= 0)
    sizes = np.bincount(manifest.identities[usable], minlength=manifest.num_identities)
    usable[usable] = sizes[manifest.identities[usable]] >= min_faces_per_identity
    faces = np.flatnonzero(usable)
    cells = 2 * groups[faces] + manifest.genders[faces]
    counts = np.bincount(cells, minlength=2 * age_groups.num_groups)
    left_out = _empty_cells(counts, age_groups, on_empty, min_faces_per_identity)
    _, cells = np.unique(cells, return_inverse=True)  # those that are not empty, from 0
    _, people = np.unique(manifest.identities[faces], return_inverse=True)
    most = int(counts[counts > 0].min())
    per_cell = most if max_faces is None else min(most, max_faces // int((counts > 0).sum()))
    chosen, per_cell = _choose(people, cells, per_cell, min_faces_per_identity, seed)
    if per_cell == 0:
        raise ValueError(
            f"{_WHERE}: found no balanced part in which everybody has 'min_faces_per_identity' = "
            f"{min_faces_per_identity} faces{'' if max_faces is None else f' within {max_faces=}'}, got {len(faces)} "
            f"faces to choose from and {most} in the rarest cell. Ask for fewer, or cut fewer age groups."
        )
    indices = faces[np.sort(chosen)]
    return BalancedSubset(manifest.select(indices), indices, per_cell, most, left_out)


def _choose(people: _Places, cells: _Places, per_cell: int, least: int, seed: int) -> tuple[_Places, int]:
    """The chosen faces, and how many of each cell: the most from ``per_cell`` downwards at which the draw comes out.

    Who has a place decides how many faces a cell can get, and how many it must get decides who has a place: the number
    falls until both agree. Where it would fall far, those who hold what was missing are tried first.
    """
    num_people, num_cells = int(people.max()) + 1, int(cells.max()) + 1
    counts = np.bincount(num_cells * people + cells, minlength=num_people * num_cells).reshape(num_people, num_cells)
    words = random_words(seed, (_PURPOSE, 0, 0), count=num_people + len(people))
    available = counts.tolist()
    shares = counts / counts.sum(axis=0)
    while per_cell > 0:
        weights, highest = np.ones(num_cells), 0
        for number in range(_TRIES):
            places = IdentityPlaces(available, per_cell, least)
            order = np.lexsort((words[:num_people], -_claims(shares * weights, add=number % 2 == 1)))
            added = places.add(order.tolist())
            held = counts[added].sum(axis=0)
            if held.min() >= per_cell:
                placed = np.array(places.placed, np.int64)
                return _draw(people, cells, placed, per_cell, words[num_people:]), per_cell
            highest = max(highest, int(held.min()))
            if number % 2 == 1:
                if highest >= _NEAR * per_cell:
                    break
                weights[held < per_cell] *= 4  # powers of two lose no bit
        per_cell = highest
    return np.empty(0, np.int64), 0


def _claims(shares: npt.NDArray[np.float64], *, add: bool) -> npt.NDArray[np.float64]:
    """Who comes first: those who hold a large share of some rare cell, or of several together."""
    claims = shares[:, 0]
    for column in shares.T[1:]:  # one after another, so that all machines round alike
        claims = claims + column if add else np.maximum(claims, column)
    return claims


def _draw(people: _Places, cells: _Places, placed: _Places, per_cell: int, words: npt.NDArray[np.uint64]) -> _Places:
    """So many faces of each person and cell as are ``placed``, then any of the same people until cells are full."""
    blocks = placed.shape[1] * people + cells
    order = np.lexsort((words, blocks))
    starts = np.searchsorted(blocks[order], blocks[order])
    needed = np.empty(len(order), np.bool_)
    needed[order] = np.arange(len(order)) - starts < placed.reshape(-1)[blocks[order]]
    allowed = np.flatnonzero(np.asarray(placed.any(axis=1))[people])
    allowed = allowed[np.lexsort((words[allowed], np.logical_not(needed[allowed]), cells[allowed]))]
    ranks = np.arange(len(allowed)) - np.searchsorted(cells[allowed], cells[allowed])
    return np.asarray(allowed[ranks < per_cell])


def _empty_cells(counts: npt.NDArray[np.int64], age_groups: AgeGroups, on_empty: str, least: int) -> tuple[str, ...]:
    names = [f"{label} {gender}" for label in age_groups.labels for gender in ("female", "male")]
    empty = tuple(name for name, count in zip(names, counts.tolist(), strict=True) if count == 0)
    if len(empty) == len(names):
        raise ValueError(
            f"{_WHERE}: 'manifest' must have people with 'min_faces_per_identity' = {least} faces of known age and "
            "gender, got none."
        )
    if empty and on_empty == "raise":
        raise ValueError(
            f"{_WHERE}: every age group must have faces of both genders, of people with at least {least}; got none of "
            f"{', '.join(empty)}. Cut other groups with age_groups=AgeGroups(...), or balance what there is with "
            'on_empty="leave_out".'
        )
    return empty


def _check_options(least: int, max_faces: int | None, seed: int, on_empty: str) -> None:
    if least < 1:
        raise ValueError(f"{_WHERE}: 'min_faces_per_identity' must be at least 1, got {least}.")
    if max_faces is not None and max_faces < 1:
        raise ValueError(f"{_WHERE}: 'max_faces' must be at least 1, got {max_faces}.")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"{_WHERE}: 'seed' must lie in [0, 2**64), got {seed}.")
    if on_empty not in ("raise", "leave_out"):
        raise ValueError(f'{_WHERE}: \'on_empty\' must be "raise" or "leave_out", got {on_empty!r}.')
