from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facemtl.data.record_format import MAGIC_BYTES, RecordError, find_parts, frame_record
from facemtl.data.record_header import pack_header, unpack_header
from facemtl.data.record_index import index_text, read_index
from facemtl.data.record_writer import RecordWriter
from facemtl.data.records import RecordFile
from facemtl.data.verification_sets import read_verification_set, write_verification_set
from tests import recordio

# Bytes in which the magic stands often, aligned and not.
CONTENTS = st.lists(
    st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:2], b"", b"a", b"\0\0\0\0"]) | st.binary(max_size=9), max_size=8
).map(b"".join)
LABELS = st.floats(width=32, allow_nan=False) | st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5)
IMAGES = CONTENTS.filter(len)
SHORT = st.binary(min_size=1, max_size=20)


@given(st.lists(CONTENTS, max_size=6))
@example([MAGIC_BYTES, MAGIC_BYTES * 3, b"abc" + MAGIC_BYTES, b"abcd" + MAGIC_BYTES, b""])
def test_framing_is_that_of_a_second_implementation(contents: list[bytes]) -> None:
    data = b"".join(map(frame_record, contents))
    assert data == b"".join(map(recordio.write_record, contents))
    assert recordio.all_records(data) == contents
    offset = 0
    for content in contents:
        parts = find_parts(data, offset, len(data))
        assert not isinstance(parts, str)
        assert (parts.join(data), parts.size) == (content, len(content))
        offset = parts.end
    assert offset == len(data)


@given(CONTENTS, st.data())
def test_no_truncated_record_is_taken_for_a_whole_one(content: bytes, data: st.DataObject) -> None:
    framed = frame_record(content)
    cut = data.draw(st.integers(0, len(framed) - 1))
    assert isinstance(find_parts(framed[:cut], 0, cut), str)


@given(LABELS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), CONTENTS)
def test_headers_return_as_they_were(labels: float | list[float], number: int, second: int, image: bytes) -> None:
    data = pack_header(labels, number=number, second=second) + image
    header = unpack_header(data)
    assert not isinstance(header, str)
    assert header[:3] == (tuple(labels) if isinstance(labels, list) else (labels,), number, second)
    assert data[header.size :] == image
    assert recordio.unpacked(data)[:2] == (list(header.labels), number)
    if second == 0:
        assert data == recordio.packed(labels, number, image)


@given(st.dictionaries(st.integers(0, 10**17), st.integers(0, 10**17), max_size=9), st.booleans())
def test_indices_return_in_order_of_their_keys(entries: dict[int, int], windows: bool) -> None:
    keys, offsets = np.array(list(entries), np.int64), np.array(list(entries.values()), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        text = index_text(keys, offsets)
        (Path(folder) / "a.idx").write_bytes(text.replace(b"\n", b"\r\n").removesuffix(b"\r\n") if windows else text)
        index = read_index(Path(folder) / "a.idx")
    assert dict(zip(index.keys.tolist(), index.offsets.tolist(), strict=True)) == entries
    assert (np.diff(index.keys) > 0).all()


@given(
    st.lists(st.tuples(IMAGES, st.integers(-1, 2**20), st.booleans()), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.permutations(range(8)),
)
def test_what_is_written_is_read(
    faces: list[tuple[bytes, int, bool]], use_index: bool, checksums: bool, keys: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.rec"
        with RecordWriter(path) as writer:
            for (image, identity, vector), key in zip(faces, keys, strict=False):
                labels = [identity, 7.5] if vector else identity
                assert writer.write(image, labels=labels, key=10 + key, id2=3) == 10 + key
        if not checksums:
            path.with_suffix(".crc").unlink()
        by_key = dict(sorted(zip((10 + key for key in keys), faces, strict=False)))
        second = {entry.id: entry for entry in map(recordio.unpacked, recordio.all_records(path.read_bytes()))}
        records = RecordFile(path, use_index=use_index)
        assert (records.indexed, records.num_damaged, len(records)) == (use_index, 0, len(faces))
        assert records.keys.tolist() == list(by_key)
        for opened in (records, pickle.loads(pickle.dumps(records))):
            assert [bytes(opened.payload(row)) for row in range(len(faces))] == [face[0] for face in by_key.values()]
        assert records.identities.tolist() == [face[1] for face in by_key.values()]
        assert np.isnan(records.ages).all()
        assert (records.genders == -1).all()
        for key, (image, identity, vector) in by_key.items():
            labels = (float(identity), 7.5) if vector else (float(identity),)
            assert records.record(key) == (labels, key, 3, image)
            assert second[key] == (list(labels), key, image)
        if checksums:
            assert records.verify() == []


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.booleans(), st.booleans(), st.booleans())
def test_insightface_layout_is_read(counts: list[int], aligned: bool, use_index: bool, shuffled: bool) -> None:
    identities = [identity for identity, count in enumerate(counts) for _ in range(count)]
    entries = recordio.insightface_records(identities, aligned=aligned)
    if shuffled:  # its order in the file means nothing
        entries = dict(sorted(entries.items(), key=lambda item: hash((item[0], 1))))
    with tempfile.TemporaryDirectory() as folder:
        path = recordio.write_file(Path(folder) / "train.rec", entries)
        records = RecordFile(path, use_index=use_index)
        images, _ = recordio.insightface_loader(path)
        assert records.identities.tolist() == identities == [identity for _, identity in images]
        assert [bytes(records.payload(row)) for row in range(len(records))] == [image for image, _ in images]
        assert records.keys.tolist() == list(range(1, len(identities) + 1))
        assert records.num_identities == len(counts)
        assert records.record(0).labels == (len(identities) + 1.0, len(identities) + len(counts) + 1.0)


@given(st.integers(0, 2**32), st.integers(0, 3), st.integers(0, 31))
def test_a_flipped_bit_of_an_identity_is_found_by_its_range(seed: int, row: int, bit: int) -> None:
    entries = recordio.insightface_records([5] * 3 + [6] * 4, aligned=bool(seed % 2))
    with tempfile.TemporaryDirectory() as folder:
        path = recordio.write_file(Path(folder) / "train.rec", entries)
        data = bytearray(path.read_bytes())
        place = data.index(b"image %d" % (row + 1)) - (8 if seed % 2 else 20)
        data[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(RecordError, match="its identity"):
            RecordFile(path)
        rest = RecordFile(path, on_damage="skip")
        assert rest.keys.tolist() == [key for key in range(1, 8) if key != row + 1]
        assert rest.num_damaged == 1


@given(
    st.lists(st.tuples(SHORT, SHORT, st.booleans()), max_size=6),
    st.sampled_from([None, 0, 1, 2, 3, 4, 5]),
    st.sampled_from(["bytes", "array", "scalars"]),
)
def test_verification_sets_return_from_any_protocol(
    pairs: list[tuple[bytes, bytes, bool]], protocol: int | None, kind: str
) -> None:
    images = [image for first, second, _ in pairs for image in (first, second)]
    same = [value for *_, value in pairs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lfw.bin"
        if protocol is None:
            write_verification_set(path, images, same)
            assert pickle.loads(path.read_bytes()) == (images, same)  # as insightface loads it
        else:
            encoded = [np.frombuffer(image, np.uint8) for image in images] if kind == "array" else images
            marks = [np.bool_(value) for value in same] if kind == "scalars" else same
            path.write_bytes(pickle.dumps((encoded, marks), protocol=protocol))
        found = read_verification_set(path)
    assert found.images == images
    assert found.same.tolist() == same
    assert found.same.dtype == bool
