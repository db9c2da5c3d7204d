"""A manifest to a file that reads back to the same labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from facemtl._core.whole_files import UNFINISHED, stage
from facemtl.data.label_tokens import UNKNOWN
from facemtl.data.manifest_parquet import write_parquet
from facemtl.data.manifest_rows import Tokens, normal_name, odd_names

if TYPE_CHECKING:
    from facemtl.data.manifest import Manifest


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write by the ending of ``path``; see :meth:`facemtl.data.manifest.Manifest.save`."""
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        _write_parquet(manifest, path)
        return
    rows = _csv_rows(manifest) if suffix == ".csv" else _line_rows(manifest)
    data = "".join(rows).encode("utf-8", "surrogateescape")
    os.replace(stage(data, staging=path.parent, durable=True), path)


def _write_parquet(manifest: Manifest, path: Path) -> None:
    names, people = list(_checked_names(manifest)), _identity_texts(manifest)
    for text in (*names, *people):
        if not _is_unicode(text):
            raise ValueError(f"Manifest.save: Parquet holds UTF-8 only, got the name {text!r}. Save as CSV or lines.")
    unfinished = path.parent / f"{path.name}.{os.getpid()}{UNFINISHED}"
    try:
        write_parquet(
            unfinished,
            {
                "filename": names,
                "identity": [people[identity] or None for identity in manifest.identities.tolist()],
                "age": [None if age != age else age for age in manifest.ages.tolist()],
                "gender": [None if gender < 0 else gender for gender in manifest.genders.tolist()],
            },
        )
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _csv_rows(manifest: Manifest) -> Iterator[str]:
    people = [_quoted(text) for text in _identity_texts(manifest)]
    ages, genders = _age_texts(manifest.ages, ""), {1: "1", 0: "0", -1: ""}
    yield "filename,identity,age,gender\n"
    for name, identity, age, gender in zip(
        _checked_names(manifest), manifest.identities.tolist(), ages, manifest.genders.tolist(), strict=True
    ):
        yield f"{_quoted(name)},{people[identity]},{age},{genders[gender]}\n"


def _line_rows(manifest: Manifest) -> Iterator[str]:
    people = [text or "-1" for text in _identity_texts(manifest)]
    for text in people:
        if set(text) & set(" \t\r\n") or text.startswith("\ufeff"):
            raise ValueError(f"Manifest.save: lines cannot hold the id {text!r}. Save as CSV.")
    ages = _age_texts(manifest.ages, "-1")
    for name, identity, age, gender in zip(
        _checked_names(manifest), manifest.identities.tolist(), ages, manifest.genders.tolist(), strict=True
    ):
        if set(name) & set("\r\n") or name != name.strip(" \t"):
            raise ValueError(f"Manifest.save: lines cannot hold the name {name!r}. Save as CSV.")
        yield f"{people[identity]} {name} {age} {gender}\n"


def _checked_names(manifest: Manifest) -> Iterator[str]:
    names = manifest.filenames
    for row in np.flatnonzero(odd_names(Tokens(names.data, names.offsets[:-1], names.offsets[1:]))).tolist():
        name = names[row]
        normal, fault = normal_name(name)
        if fault is not None or normal != name:
            raise ValueError(
                f"Manifest.save: names must be plain ones below 'root', got {name!r} ({fault or f'write {normal!r}'})."
            )
    return iter(names)


def _identity_texts(manifest: Manifest) -> list[str]:
    """Id of each identity; one more, empty, at the end, where −1 finds it."""
    texts = list(manifest.identity_names)
    for text in texts:
        if text in UNKNOWN or text != text.strip():
            raise ValueError(
                f"Manifest.save: an id must not look unknown and have no blanks at its ends, got {text!r}."
            )
    return [*texts, ""]


def _age_texts(ages: npt.NDArray[np.float32], unknown: str) -> list[str]:
    """The shortest numbers that read back to the same float32."""
    different, which = np.unique(ages, return_inverse=True)
    return np.array([_age_text(age, unknown) for age in different], object)[which.reshape(-1)].tolist()


def _age_text(age: np.float32, unknown: str) -> str:
    if np.isnan(age):
        return unknown
    text = str(int(age)) if age == int(age) else str(age)
    return text if np.float32(float(text)) == age else repr(float(age))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
