"""Manifests for tests: drawn names and labels, a plain second reader, and comparison."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from facemtl.data.manifest import Manifest
from facemtl.data.packed_names import PackedNames

UNKNOWN = ("", "-1", "-1.0", "nan", "NaN", "NAN")

_letters = st.characters(exclude_characters='\\/\0 \t\r\n,"', exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
_part = st.text(_letters, min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))
_spaced = st.lists(_part, min_size=1, max_size=3).map(" ".join)
names = (
    st.lists(_spaced, min_size=1, max_size=3)
    .map("/".join)
    .filter(lambda name: name[1:2] != ":" and not name.startswith("﻿"))
)
"""Names that every format can hold."""

identities = st.one_of(st.integers(0, 30).map(str), _part).filter(
    lambda text: text not in UNKNOWN and text == text.strip() and not text.startswith("﻿")
)
ages = st.one_of(
    st.integers(0, 100).map(float),
    st.floats(0, 100, width=32),
    st.just(math.nan),
)
genders = st.sampled_from([1, 0, -1])


rows = st.lists(
    st.tuples(names, st.one_of(st.none(), identities), ages, genders), min_size=1, max_size=12, unique_by=lambda r: r[0]
)
"""Rows of a manifest. Strategies call nothing of facemtl: beartype, where it watches, draws random numbers."""


def manifest_of(drawn: list[tuple[str, str | None, float, int]]) -> Manifest:
    """A manifest of such rows, whose identities are in their order."""
    files, who, years, sexes = (list(column) for column in zip(*drawn, strict=True))
    known = {name for name in who if name is not None}
    whole = all(name.isascii() and name.isdigit() for name in known)
    people = sorted(known, key=(lambda name: (int(name), name)) if whole else str)
    return Manifest(
        Path("faces"),
        PackedNames.pack(files),
        np.array([-1 if name is None else people.index(name) for name in who], np.int64),
        np.array(years, np.float32),
        np.array(sexes, np.int8),
        PackedNames.pack(people),
    )


def assert_same(one: Manifest, other: Manifest) -> None:
    """The same faces with the same labels, bit for bit."""
    assert list(one.filenames) == list(other.filenames)
    assert list(one.identity_names) == list(other.identity_names)
    for name in ("identities", "ages", "genders"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
