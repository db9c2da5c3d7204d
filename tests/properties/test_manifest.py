"""Manifests read back as they were, the quick way equals the careful one, and every planted fault is found."""

from __future__ import annotations

import contextlib
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facemtl.data.manifest import Manifest, read_manifest
from facemtl.data.manifest_columns import find_columns
from facemtl.data.manifest_lines import cut_lines, cut_lines_singly, read_label_lines
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.manifest_rows import RowBlock, Tokens, distinct, gather_rows, normal_name, odd_names
from facemtl.data.manifest_tables import read_csv
from facemtl.data.packed_names import PackedNames
from facemtl.data.plain_numbers import plain_numbers
from tests import manifests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@given(manifests.rows, st.sampled_from(["labels.txt", "labels.csv", "labels.parquet"]))
def test_a_saved_manifest_reads_back_exactly(
    folder: Path, drawn: list[tuple[str, str | None, float, int]], name: str
) -> None:
    manifest = manifests.manifest_of(drawn)
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    manifest.save(folder / name)
    manifests.assert_same(read_manifest(folder / name, check_files=False), manifest)


@given(st.lists(st.text('a,"\r\n é', min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_csv_holds_any_name(folder: Path, names: list[str]) -> None:
    manifest = Manifest(
        folder,
        PackedNames.pack(names),
        np.full(len(names), -1, np.int64),
        np.full(len(names), 7, np.float32),
        np.zeros(len(names), np.int8),
        PackedNames.pack([]),
    )
    manifest.save(folder / "any.csv")
    manifests.assert_same(read_manifest(folder / "any.csv", check_files=False), manifest)


@given(st.lists(st.binary(max_size=9).filter(lambda name: b"\0" not in name), max_size=8), st.data())
def test_packed_names_are_a_sequence(names: list[bytes], data: st.DataObject) -> None:
    texts = [name.decode("utf-8", "surrogateescape") for name in names]
    packed = PackedNames.pack(texts)
    assert list(packed) == texts
    assert list(packed.encoded()) == names
    assert [packed[index] for index in range(-len(texts), len(texts))] == texts + texts
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5)) if texts else []
    assert list(packed.take(np.array(chosen, np.int64))) == [texts[index] for index in chosen]
    with pytest.raises(IndexError, match=str(len(texts))):
        packed[len(texts)]


def _texts(block: RowBlock) -> tuple[object, ...]:
    columns = (block.names, block.identities, block.ages, block.genders)
    return block.lines.tolist(), [c.encoded() if c is not None else None for c in columns], list(block.problems)


_line_bytes = st.lists(st.sampled_from([b" ", b"\t", b"a", b"7", b".", b"/", b"\xff", b"\n", b"  ", b"0 a.jpg 3 1\n"]))


@given(_line_bytes.map(b"".join), st.integers(1, 9))
@example(b"0 a b 3 1\n0 c.jpg 4 0", 1)
def test_lines_cut_at_once_equal_lines_cut_singly(text: bytes, first: int) -> None:
    text += b"\n"
    assert _texts(cut_lines(text, first)) == _texts(cut_lines_singly(text, first))


@given(
    st.lists(st.sampled_from([b"0 a.jpg 3 1", b"1 b c 4 0", b"x", b"", b"\xef\xbb\xbf", b" ", b"\xff"])),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.integers(1, 20),
)
def test_blocks_of_any_size_say_the_same(folder: Path, lines: list[bytes], end: bytes, size: int) -> None:
    path = folder / "blocks.txt"
    path.write_bytes(end.join(lines))
    small = gather_rows(read_label_lines(path, block_bytes=size), age_ranges="refuse")
    large = gather_rows(read_label_lines(path), age_ranges="refuse")
    assert small.lines.tolist() == large.lines.tolist()
    assert list(small.names) == list(large.names)
    assert small.problems == large.problems
    np.testing.assert_array_equal(small.ages, large.ages)


@given(
    st.lists(
        st.sampled_from(["a.jpg,1,3,0", "b,2,,1", "x", "", "c,,5,male", '"q,""",7,1,f', '"n\nl",8,2,m', "é,-1,,"])
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 40),
)
def test_csv_cut_at_once_equals_the_standard_reader(folder: Path, rows: list[str], end: str, size: int) -> None:
    header = "filename,id,age,gender"
    plain, quoted = folder / "plain.csv", folder / "quoted.csv"
    plain.write_text(end.join([header, *rows]), newline="")
    quoted.write_text(end.join(['"filename",id,age,gender', *rows]), newline="")  # a quote: read row by row

    def read(path: Path, block: int) -> object:
        blocks = read_csv(
            path,
            lambda names: find_columns(names, {}, age_ranges="refuse", where="test"),
            where="test",
            block_bytes=block,
        )
        found = gather_rows(blocks, age_ranges="refuse")
        return (
            found.lines.tolist(),
            list(found.names),
            [None if code < 0 else found.identity_names[code] for code in found.identities.tolist()],
            [str(age) for age in found.ages],
            found.genders.tolist(),
            sorted(found.problems),
        )

    assert read(plain, size) == read(quoted, 2**20)


@given(st.lists(st.binary(max_size=9), max_size=12))
def test_distinct_texts_are_those_of_a_dictionary(texts: list[bytes]) -> None:
    packed = PackedNames.pack_bytes(texts)
    tokens = Tokens(packed.data, packed.offsets[:-1], packed.offsets[1:])
    different, which = distinct(tokens)
    assert [different[place] for place in which] == texts
    assert len(set(different)) == len(different)


@given(
    st.lists(st.one_of(st.text("0123456789.", max_size=18), st.floats(0, 1e6).map(str), st.text("0.-e ", max_size=4)))
)
@example(["0.1", "100.0000", ".5", "5.", ".", "", "999999999999999", "1.00000000000001", "72.9999999999999"])
def test_plain_numbers_are_those_of_python(texts: list[str]) -> None:
    values, plain = plain_numbers(*Tokens.of(texts))
    for text, value, good in zip(texts, values.tolist(), plain.tolist(), strict=True):
        if good:
            assert value == float(text)
        elif text.isdigit():
            assert len(text) > 15


@given(st.lists(st.text("./\\:a\0 ", max_size=6), max_size=8))
def test_names_that_are_not_odd_need_no_care(texts: list[str]) -> None:
    odd = odd_names(Tokens.of(texts))
    for text, marked in zip(texts, odd, strict=True):
        assert marked or normal_name(text) == (text, None)


_SOUND_AGES = ("31", "0", "100", "7.25", "-1", "nan", "1e1")
_SOUND_GENDERS = ("1", "0", "-1", "m", "F", "female", "Male", "nan")
_FAULTS = {
    "age out of range": ("age", ("101", "-2", "1e9", "-0.5")),
    "age is not finite": ("age", ("inf", "-inf", "Infinity", "1e999")),
    "age is no number": ("age", ("old", "3O", "1_0", "0x10", "٣")),
    "age is a range": ("age", ("20-29", "70+")),
    "unknown gender": ("gender", ("2", "x", "-2", "man")),
    "unsafe name": ("name", ("../a.jpg", "/etc/passwd", "a\\b.jpg", "a/../b.jpg", "a\0.jpg", "C:/a.jpg", "..", ".")),
    "missing file": ("name", ("gone.jpg", "no/such.jpg")),
    "link leads out": ("name", ("out.jpg", "outside/b.jpg")),
    "no regular file": ("name", ("sub",)),
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty files in two folders, links within and out of their root."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b.jpg").touch()
    root = tmp_path_factory.mktemp("faces")
    (root / "sub").mkdir()
    for number in range(20):
        (root / f"{number}.jpg").touch()
        (root / "sub" / f"{number} x.jpg").touch()
    (root / "in.jpg").symlink_to(root / "0.jpg")
    (root / "out.jpg").symlink_to(outside / "b.jpg")
    (root / "outside").symlink_to(outside)
    return root


@given(st.integers(0, 2**32), st.sampled_from(["txt", "csv"]), st.data())
def test_every_planted_fault_is_found_at_its_line_and_none_invented(
    faces: Path, folder: Path, seed: int, suffix: str, data: st.DataObject
) -> None:
    rng = random.Random(seed)
    files = ["in.jpg", *(f"{n}.jpg" for n in range(20)), *(f"sub/{n} x.jpg" for n in range(20))]
    rng.shuffle(files)
    rows, planted, first_line, taken = [], [], {}, set()
    for line, name in enumerate(files[: rng.randint(1, 30)], start=1 + (suffix == "csv")):
        row = {
            "id": str(rng.randint(0, 9)),
            "name": name,
            "age": rng.choice(_SOUND_AGES),
            "gender": rng.choice(_SOUND_GENDERS),
        }
        for kind in data.draw(st.sets(st.sampled_from([*_FAULTS, "duplicate row", "malformed row"]), max_size=2)):
            if kind == "duplicate row" and first_line and "name" not in taken:
                row["name"] = rng.choice(list(first_line))
                planted.append((line, kind))
                taken.add("name")
            elif kind in _FAULTS and _FAULTS[kind][0] not in taken:
                column, texts = _FAULTS[kind]
                row[column] = rng.choice(texts)
                if column != "name" or kind == "unsafe name" or row["name"] not in first_line:
                    planted.append((line, kind))
                else:
                    planted += [(line, kind), (line, "duplicate row")]
                taken.add(column)
        taken.clear()
        if not any(fault == (line, "unsafe name") for fault in planted):
            first_line.setdefault(row["name"], line)
        rows.append(row)
    # a name that repeats one whose file is missing is missing as well
    separator = " " if suffix == "txt" else ","
    text = "".join(separator.join(row.values()) + "\n" for row in rows)
    path = folder / f"planted.{suffix}"
    path.write_text(("" if suffix == "txt" else "id,name,age,gender\n") + text)
    absent = {"gone.jpg": "missing file", "no/such.jpg": "missing file", "out.jpg": "link leads out"}
    absent |= {"outside/b.jpg": "link leads out", "sub": "no regular file"}
    for line, row in enumerate(rows, start=1 + (suffix == "csv")):
        if row["name"] in absent and (line, absent[row["name"]]) not in planted:
            planted.append((line, absent[row["name"]]))
    bad = {line for line, _ in planted}
    if planted:
        with pytest.raises(ManifestError) as caught:
            read_manifest(path, root=faces)
        assert sorted((problem.line, problem.kind) for problem in caught.value.problems) == sorted(planted)
    if len(bad) < len(rows):
        manifest = read_manifest(path, root=faces, on_problem="drop")
        good = [row for line, row in enumerate(rows, start=1 + (suffix == "csv")) if line not in bad]
        assert list(manifest.filenames) == [row["name"] for row in good]
        assert [manifest.identity_names[who] for who in manifest.identities] == [row["id"] for row in good]
        assert sorted((problem.line, problem.kind) for problem in manifest.problems) == sorted(planted)


def _plain_age(text: str) -> float:
    return math.nan if text in manifests.UNKNOWN else float(np.float32(float(text)))


@given(manifests.rows, st.sampled_from(["txt", "csv"]), st.data())
def test_a_mutated_manifest_is_refused_or_says_what_its_text_says(
    folder: Path, drawn: list[tuple[str, str | None, float, int]], suffix: str, data: st.DataObject
) -> None:
    manifest = manifests.manifest_of(drawn)
    path = folder / f"mutated.{suffix}"
    manifest.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    path.write_bytes(bytes(content))
    try:
        found = read_manifest(path, check_files=False)
    except ManifestError:
        return
    if suffix == "csv":
        return  # compared with the standard reader above
    text = bytes(content).decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    rows = [line.replace("\t", " ").split(" ") for line in text.split("\n") if line.strip(" \t")]
    words = [[word for word in row if word] for row in rows]
    assert len(words) == len(found)
    for index, (identity, *_, age, gender) in enumerate(words):
        who = int(found.identities[index])
        assert (identity in manifests.UNKNOWN) if who < 0 else found.identity_names[who] == identity.strip()
        np.testing.assert_equal(float(found.ages[index]), _plain_age(age.strip()))
        expected = {
            1: {"1", "1.0", "m", "male"},
            0: {"0", "0.0", "f", "female"},
            -1: {u.lower() for u in manifests.UNKNOWN},
        }
        assert gender.strip().lower() in expected[int(found.genders[index])]


@given(st.binary(max_size=200), st.sampled_from(["txt", "csv"]))
@example(b'filename\n"', "csv")
@example(b"0 " + b" " * 100_000 + b"x", "txt")
@example(b"0 a " + b"9" * 100_000 + b"x 1", "txt")
def test_any_bytes_are_read_or_refused(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"bytes.{suffix}"
    path.write_bytes((b"filename,age\n" if suffix == "csv" else b"") + content)
    with contextlib.suppress(ManifestError):
        assert len(read_manifest(path, check_files=False)) > 0


@given(manifests.rows, st.data())
def test_selected_faces_keep_their_labels(drawn: list[tuple[str, str | None, float, int]], data: st.DataObject) -> None:
    manifest = manifests.manifest_of(drawn)
    chosen = data.draw(st.lists(st.integers(0, len(manifest) - 1), min_size=1, unique=True))
    part = manifest.select(chosen)
    assert list(part.filenames) == [manifest.filenames[index] for index in chosen]
    np.testing.assert_array_equal(part.ages, manifest.ages[chosen])

    def people(some: Manifest) -> list[str | None]:
        return [None if who < 0 else some.identity_names[who] for who in some.identities.tolist()]

    assert people(part) == [people(manifest)[index] for index in chosen]
    assert set(part.identities.tolist()) - {-1} == set(range(part.num_identities))
