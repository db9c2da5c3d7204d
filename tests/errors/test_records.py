from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facemtl.data.pack_records import pack_records
from facemtl.data.photographs import PhotographError
from facemtl.data.record_format import LONGEST, RecordError, frame_record
from facemtl.data.record_writer import RecordWriter
from facemtl.data.records import RecordFile
from facemtl.data.verification_sets import read_verification_set, write_verification_set
from tests import recordio
from tests.labelled_faces import PlainManifest, write_faces

IDENTITIES = [0, 0, 0, 1, 1, 1]


def insightface_file(folder: Path, identities: list[int] = IDENTITIES) -> Path:
    return recordio.write_file(folder / "train.rec", recordio.insightface_records(identities))


def fault(path: Path, **options: bool | tuple[str | None, ...]) -> RecordError:
    with pytest.raises(RecordError) as caught:
        RecordFile(path, **options)
    assert str(caught.value).startswith(repr(caught.value.path))
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    return caught.value


def places(path: Path) -> dict[int, int]:
    return dict(tuple(map(int, line.split("\t"))) for line in path.with_suffix(".idx").read_text().splitlines())


def change(path: Path, place: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)


def test_files_that_are_no_records_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    assert "cannot be read (No such file" in str(fault(path))
    path.write_bytes(b"")
    assert fault(path).reason == "empty file"
    path.write_bytes(b"<!DOCTYPE html><html>404 Not Found</html>")
    assert fault(path).reason == "the file does not start with a record"
    assert fault(path).offset == 0
    path.unlink()
    os.mkfifo(path)  # opening it to read would wait for ever
    assert fault(path).reason == "not a regular file"
    assert fault(tmp_path).reason in ("not a regular file", "cannot be read (Is a directory)")


@pytest.mark.parametrize("use_index", [True, False])
def test_a_truncated_file_is_named_with_record_and_offset(tmp_path: Path, use_index: bool) -> None:
    path = insightface_file(tmp_path)
    size, offset = path.stat().st_size, places(path)[8]  # the second range, which stands last
    os.truncate(path, size - 4)
    found = fault(path, use_index=use_index)
    assert (found.record, found.offset) == (8, offset)
    assert found.reason == f"it claims 32 bytes, {size - 4 - offset - 8} are left in the file"
    os.truncate(path, offset + 4)
    found = fault(path, use_index=use_index)
    assert found.offset == offset
    assert found.reason in (
        "the file ends before the record does",
        f"the file of {offset + 4:,} bytes can have no record there",
    )


def test_absurd_lengths_are_held_to_the_size_of_the_file(tmp_path: Path) -> None:
    path = insightface_file(tmp_path)
    offset = places(path)[3]
    change(path, offset + 4, struct.pack("<I", LONGEST))
    found = fault(path)
    assert (found.record, found.offset) == (2, offset)
    assert found.reason.startswith(f"it claims {LONGEST:,} bytes, ")
    rest = RecordFile(path, on_damage="skip")
    assert (rest.keys.tolist(), rest.num_damaged) == ([1, 2, 4, 5, 6], 1)
    change(path, offset + 4, struct.pack("<I", 10))
    assert fault(path).reason == "its length does not lead to the next record"
    change(path, offset + 4, struct.pack("<I", 150))
    assert fault(path).reason == "it reaches into the next record"
    assert fault(path, use_index=False).reason == "its length does not lead to the next record"


@pytest.mark.parametrize(("word", "place"), [(0xCED7230B, 0), (6 << 29 | 60, 4), (3 << 29 | 60, 4), (1 << 29 | 60, 4)])
@pytest.mark.parametrize("use_index", [True, False])
def test_damaged_words_lose_one_record_and_no_other(tmp_path: Path, word: int, place: int, use_index: bool) -> None:
    path = insightface_file(tmp_path)
    offset = places(path)[3]
    change(path, offset + place, struct.pack("<I", word))
    assert fault(path, use_index=use_index).offset == offset
    rest = RecordFile(path, use_index=use_index, on_damage="skip")
    assert rest.keys.tolist() == [1, 2, 4, 5, 6]
    assert rest.identities.tolist() == [0, 0, 1, 1, 1]
    assert [bytes(rest.payload(row))[:7] for row in range(5)] == [b"image %d" % key for key in (1, 2, 4, 5, 6)]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda lines: [*lines, "99\t4000"], "the file of {size} bytes can have no record there"),
        (lambda lines: ["1\t2", *lines[1:]], "the file of {size} bytes can have no record there"),
        (lambda lines: ["1\t4", *lines[1:]], "no record starts there, as the index says"),
        (lambda lines: [*lines, lines[0]], "its key stands in the index already"),
        (lambda lines: ["1\t" + lines[1].split("\t")[1], *lines[1:]], "its offset is another's already"),
        (lambda lines: lines[1:], "the index does not list this record"),
        (lambda lines: [lines[0], *lines[2:]], "the index does not list this record"),
        (lambda lines: lines[:-1], "the index does not list this record"),
        (lambda lines: ["77" + lines[0][1:], *lines[1:]], "1 of the 9 faces that the header tells of are not in the"),
    ],
)
def test_an_index_that_does_not_fit_is_reported(
    tmp_path: Path, edit: Callable[[list[str]], list[str]], reason: str
) -> None:
    path = insightface_file(tmp_path, [*IDENTITIES, 2, 2, 2])
    index = path.with_suffix(".idx")
    index.write_text("".join(line + "\n" for line in edit(index.read_text().splitlines())))
    assert fault(path).reason.startswith(reason.format(size=path.stat().st_size))
    assert RecordFile(path, use_index=False).identities.tolist() == [*IDENTITIES, 2, 2, 2]
    assert RecordFile(path, on_damage="skip").num_damaged >= 1


@pytest.mark.parametrize("line", ["7", "7\t", "7 8", "-7\t8", "7\t8\t9", "7\t1e3", "7\t" + "1" * 19, "", "\0"])
def test_lines_of_an_index_are_two_numbers(tmp_path: Path, line: str) -> None:
    path = insightface_file(tmp_path)
    path.with_suffix(".idx").write_text(f"1\t0\n{line}\n2\t100\n")
    found = fault(path)
    assert found.path.endswith("train.idx")
    assert found.reason.startswith("line 2 must be a key, a tab and an offset, got ")


@pytest.mark.parametrize(
    ("labels", "columns", "reason"),
    [
        (1.5, ("identity",), "its identity must be a whole number"),
        (float("nan"), ("identity",), "its identity must be a whole number"),
        (-2, ("identity",), "its identity must be a whole number"),
        (1, ("identity", "age"), "its age must lie in [0, 100] years"),
        ((1, 130), ("identity", "age"), "its age must lie in [0, 100] years"),
        ((2, 1), ("gender", "identity"), "its gender must be 1, 0 or −1"),
    ],
)
def test_labels_that_cannot_be_true_are_refused(
    tmp_path: Path, labels: float | tuple[float, ...], columns: tuple[str | None, ...], reason: str
) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        writer.write(b"an image", labels=[1, 1])
        writer.write(b"an image", labels=labels)
    found = fault(path, columns=columns)
    assert found.reason.startswith(reason)
    assert found.record == 1


@pytest.mark.parametrize(
    ("labels", "names", "reason"),
    [
        ((3.5, 4), b"", "the header must tell the keys of the first and last range, got 3.5 and 4"),
        ((4, 3), b"", "the header must tell the keys of the first and last range, got 4 and 3"),
        ((3, 4), b'{"facemtl labels": ["identity", "agf"]}', "the header must name labels among ('identity', "),
        ((3, 4), b'{"facemtl labels": ["age", "age"]}', "the header must name labels among ('identity', "),
        ((2, 3), b"", "the header tells of no such key"),
        ((4, 5), b"", "1 of the 3 faces that the header tells of are not in the file"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(
    tmp_path: Path, labels: tuple[float, ...], names: bytes, reason: str
) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        writer.write(names, labels=labels, key=0)
        writer.write(b"an image", labels=0)
        writer.write(b"an image", labels=0)
        if labels != (4, 5):
            writer.write(b"", labels=(1, 3))
    assert fault(path).reason.startswith(reason)


def test_checksums_find_what_nothing_else_would(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for key in range(4):
            writer.write(b"an image of %d" % key, labels=[key, 30.0 + key, 1])
    offset = places(path)[2]
    change(path, offset + 8 + 24 + 4, struct.pack("<f", 33.0))
    found = fault(path)
    assert (found.record, found.offset) == (2, offset)
    assert found.reason == "its labels or its key are not what was written"
    assert RecordFile(path, on_damage="skip").keys.tolist() == [0, 1, 3]
    change(path, offset + 8 + 24 + 4, struct.pack("<f", 32.0))
    change(path, offset + 8 + 36, b"AN")
    records = RecordFile(path)
    assert [(found.record, found.offset, found.reason) for found in records.verify()] == [
        (2, offset, "its image is not what was written")
    ]
    change(path, offset + 8 + 36, b"an")
    assert records.verify() == []
    change(path.with_suffix(".crc"), 60, b"\1")
    assert fault(path).reason == "the checksums are damaged themselves"
    path.with_suffix(".crc").unlink()
    with pytest.raises(RecordError, match="a.crc.*cannot be read"):
        RecordFile(path).verify()


def test_a_shortened_file_with_a_shortened_index_is_told_by_the_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for key in range(4):
            writer.write(b"an image", labels=key)
    os.truncate(path, places(path)[3])
    index = path.with_suffix(".idx")
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:3]))
    assert fault(path).reason == "1 records that were written are missing"


def test_a_file_that_was_changed_is_not_mapped_again(tmp_path: Path) -> None:
    path = insightface_file(tmp_path)
    state = pickle.dumps(RecordFile(path))
    os.utime(path, ns=(1, 1))
    with pytest.raises(RecordError, match="train.rec': the file was changed since it was opened. Open it again."):
        pickle.loads(state).payload(0)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    path = insightface_file(tmp_path)
    with pytest.raises(ValueError, match="'on_damage' must be \"raise\" or \"skip\", got 'ignore'"):
        RecordFile(path, on_damage="ignore")
    for columns in ((), (None,), ("identity", "identity"), ("identity", "name")):
        with pytest.raises(ValueError, match="'columns' must be some of"):
            RecordFile(path, columns=columns)
    records = RecordFile(path)
    with pytest.raises(IndexError, match=r"'index' must lie in \[0, 6\), got 6"):
        records.payload(6)
    with pytest.raises(KeyError, match="no record of key 77"):
        records.record(77)
    assert bytes(records.payload(-1)).startswith(b"image 6")


def interrupted(writer: RecordWriter) -> None:
    with writer:
        writer.write(b"another", labels=1)
        raise RuntimeError


def test_writers_leave_nothing_when_they_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with pytest.raises(RuntimeError):
        interrupted(RecordWriter(path))
    assert list(tmp_path.iterdir()) == []
    with RecordWriter(path) as writer:
        writer.write(b"an image", labels=0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="a.rec' exists. Pass overwrite=True"):
        RecordWriter(path)
    with pytest.raises(RuntimeError):
        interrupted(RecordWriter(path, overwrite=True))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    with RecordWriter(path, overwrite=True) as writer:
        writer.write(b"another", labels=1)
    assert RecordFile(path).identities.tolist() == [1]
    with pytest.raises(ValueError, match="must be open, got a call outside"):
        writer.write(b"another", labels=1)
    with pytest.raises(ValueError, match="must end in '.rec', got 'a.bin'"):
        RecordWriter("a.bin")


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        with pytest.raises(FileExistsError, match=r"a.rec.part' exists: another writer is at work"), RecordWriter(path):
            pass
        writer.write(b"an image", labels=0)
    with pytest.raises(OSError, match="must be 40 bytes long, got 41. Does another process write it"):
        disturbed(RecordWriter(path, overwrite=True))
    assert RecordFile(path).verify() == []


def disturbed(writer: RecordWriter) -> None:
    with writer:
        writer.write(b"an image", labels=0)
        with open(writer.unfinished, "r+b") as other:
            other.seek(40)
            other.write(b"x")


def test_writers_refuse_what_cannot_be_read(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(b"an image", labels=0, key=4)
        assert writer.write(b"an image", labels=0) == 5
        with pytest.raises(ValueError, match="'key' must be new and in .*, got 4"):
            writer.write(b"an image", labels=0, key=4)
        with pytest.raises(ValueError, match="'key' must be new and in .*, got -1"):
            writer.write(b"an image", labels=0, key=-1)
        with pytest.raises(ValueError, match=r"'labels' must hold at least one label, got none"):
            writer.write(b"an image", labels=[])
        with pytest.raises(ValueError, match=r"labels must be float32.*got labels 1e\+39"):
            writer.write(b"an image", labels=1e39)
        with pytest.raises(ValueError, match=r"'num_records' must lie in \[0, 2\] of an open writer, got 3"):
            writer.rewind(3)
    assert RecordFile(tmp_path / "a.rec").keys.tolist() == [4, 5]
    with pytest.raises(ValueError, match="at most 536,870,911 bytes, got 536,870,912"):
        frame_record(bytes(LONGEST + 1))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch EVIL",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_program_is_refused(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.bin"
    for content in (Evil(), ([b"a", b"b"], [Evil()]), ([Evil(), b"b"], [True])):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(RecordError, match=r"offset \d+: it asks for '(posix|nt).system', which no verification"):
            read_verification_set(path)
    assert not (tmp_path / "EVIL").exists()
    pickle.loads(pickle.dumps(Evil(), protocol=protocol))
    assert (tmp_path / "EVIL").exists()  # the test can fail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ccopy_reg\n_reconstructor\n.", "it asks for 'copy_reg._reconstructor'"),
        (b"(i__main__\nx\n.", "the instruction INST is not read here"),
        (b"\x80\x02}.", "the instruction EMPTY_DICT is not read here"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "it must hold images and whether pairs are the same, got list of 0"),
        (b"\x80\x04B\xff\xff\xff\x7fabc.", "damaged pickle"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "damaged pickle"),
        (b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "damaged pickle"),
        (b"]" + b"q\0" + b"h\0" * 3 + b".", "damaged pickle (4 values at its end)"),
        (b"garbage", "damaged pickle"),
        (b"h\5.", "damaged pickle"),
        (b"K\5.", "it must hold images and whether pairs are the same, got 5"),
        (pickle.dumps(([b"a"], [True])), "it must have two images for each of 1 pairs, got 1"),
        (pickle.dumps(([b"a", "b"], [True])), "an image must be the bytes of a file, got str of 1"),
        (pickle.dumps(([b"a", b""], [True])), "an image must be the bytes of a file, got bytes of 0"),
        (pickle.dumps(([b"a", b"b"], [2])), "whether a pair is the same must be True or False, got 2"),
        (pickle.dumps(([np.zeros(3, np.float32), b"b"], [True])), "arrays must be of uint8 or bool, got f4"),
        (pickle.dumps((b"ab", [True])), "it must hold two lists, got bytes of 2 and list of 1"),
        (pickle.dumps(([b"a", b"b"], [True]))[:-9], "damaged pickle"),
    ],
)
def test_other_pickles_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_verification_set(path)
    assert caught.value.reason.startswith(reason)
    assert caught.value.path == str(path)


def test_verification_sets_are_written_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(ValueError, match="'images' must be two for each of 1 pairs, got 3"):
        write_verification_set(path, [b"a", b"b", b"c"], [True])
    with pytest.raises(ValueError, match="no image must be empty, got one at index 1"):
        write_verification_set(path, [b"a", b""], [True])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecordError, match="a.bin': cannot be read .No such file"):
        read_verification_set(path)
    write_verification_set(path, [b"a", b"b"], [True])
    with pytest.raises(RecordError, match="too many bytes"):
        read_verification_set(path, max_bytes=3)


def test_packing_names_what_is_wrong(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path / "faces", 6)
    target = tmp_path / "train.rec"

    def changed(**columns: object) -> PlainManifest:
        return PlainManifest(**{**vars(manifest), **columns})

    for options, message in [
        ({"on_broken": "ignore"}, "'on_broken' must be \"raise\" or \"skip\", got 'ignore'"),
        ({"labels": "age"}, "'labels' must be \"all\" or \"identity\", got 'age'"),
        ({"size": (0, 4)}, r"'size' must be a positive height and width, got \(0, 4\)"),
        ({"quality": 101}, r"'quality' must lie in \[1, 100\], got 101"),
        ({"identity_ranges": False}, "'labels' must be \"identity\" without ranges, got 'all'"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack_records(manifest, target, **options)
    for columns, message in [
        ({"identities": np.array([0, 0, -1, 1, 1, 1])}, "'identities' must be 0 or more .*, got -1 at row 2"),
        ({"identities": np.array([0, 0, 1, 1, 1])}, "must be faces with one identity each, got 6 and 5"),
        ({"identities": np.array([0, 0, 1, 1, 1, 2**24 - 3])}, "keys must be at most .*got 6 faces of 16,777,214"),
        ({"ages": np.array([1, 2, 3, 4, 5, 101], np.float32)}, r"'ages' must lie in \[0, 100\] .*got 101.0 at row 5"),
        ({"genders": np.array([1, 2, 0, 0, 0, 0], np.int8)}, "'genders' must be 1, 0 or −1, got 2 at row 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack_records(changed(**columns), target)
    (manifest.root / "0002.jpg").write_bytes(b"")
    with pytest.raises(PhotographError, match="0002.jpg': empty file"):
        pack_records(manifest, target)
    assert not target.exists()
    for name in manifest.filenames:
        (manifest.root / name).write_bytes(b"")
    with pytest.raises(ValueError, match="some image must be whole, got none of 6"):
        pack_records(manifest, target, on_broken="skip")
