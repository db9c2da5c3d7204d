"""Record files held to a second implementation, to worker processes, to damage, and to real photographs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facemtl.data.broken_images import BrokenImageError
from facemtl.data.datasets import FaceDataset
from facemtl.data.face_layout import EXACT, face_rows, find_layout, range_rows
from facemtl.data.pack_records import pack_records
from facemtl.data.photographs import PhotographError
from facemtl.data.record_dataset import RecordDataset
from facemtl.data.record_format import MAGIC_BYTES, RecordError
from facemtl.data.record_table import Damage, RecordTable
from facemtl.data.record_writer import RecordWriter
from facemtl.data.records import RecordFile
from facemtl.data.samples import collate_faces
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.verification_sets import read_verification_set
from tests import pictures, recordio
from tests.conftest import SHARED
from tests.labelled_faces import PlainManifest, write_faces

SIZE = (24, 20)


def shuffled(manifest: PlainManifest, seed: int = 3) -> PlainManifest:
    order = np.random.default_rng(seed).permutation(len(manifest.filenames))
    return PlainManifest(
        manifest.root,
        [manifest.filenames[row] for row in order],
        manifest.identities[order],
        manifest.ages[order],
        manifest.genders[order],
    )


def test_what_is_packed_is_what_insightface_loads(tmp_path: Path) -> None:
    manifest = shuffled(write_faces(tmp_path / "faces", 14))
    manifest.ages[2], manifest.genders[2] = np.nan, -1
    calls: list[tuple[int, int]] = []
    packed = pack_records(manifest, tmp_path / "train.rec", progress=lambda *done: calls.append(done))
    assert packed == (tmp_path / "train.rec", 14, 5, SIZE, [])
    assert calls == [(count, 14) for count in range(1, 15)]
    assert (tmp_path / "property").read_text() == "5,24,20\n"
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [
        "property", "train.crc", "train.idx", "train.rec"
    ]  # fmt: skip
    images, ranges = recordio.insightface_loader(tmp_path / "train.rec")
    order = np.argsort(manifest.identities, kind="stable")
    files = [(manifest.root / manifest.filenames[row]).read_bytes() for row in order]
    assert images == [(data, int(manifest.identities[row])) for data, row in zip(files, order, strict=True)]
    for identity, (start, end) in ranges.items():
        assert {label for _, label in images[start - 1 : end - 1]} == {identity}
    assert len(ranges) == 5
    for use_index in (True, False):
        records = RecordFile(tmp_path / "train.rec", use_index=use_index)
        assert [bytes(records.payload(row)) for row in range(14)] == files
        np.testing.assert_array_equal(records.identities, manifest.identities[order])
        np.testing.assert_array_equal(records.ages, manifest.ages[order])
        np.testing.assert_array_equal(records.genders, manifest.genders[order])
        assert records.verify() == []
        assert [records.record(int(key)).id2 for key in records.keys] == order.tolist()


def test_flat_files_with_numbers_for_labels_load_too(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path / "faces", 5)
    pack_records(manifest, tmp_path / "train.rec", labels="identity", identity_ranges=False)
    images, ranges = recordio.insightface_loader(tmp_path / "train.rec")
    assert ranges == {}
    assert [label for _, label in images] == [0, 0, 0, 1, 1]
    records = RecordFile(tmp_path / "train.rec")
    assert (records.keys.tolist(), records.identities.tolist()) == ([0, 1, 2, 3, 4], [0, 0, 0, 1, 1])


def test_only_images_of_another_size_are_encoded_anew(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path / "faces", 4, suffix=".png")
    pictures.save(manifest.root / "0001.png", 1, 48, 40)
    with pytest.raises(PhotographError, match=r"0001.png': another size \(48 x 40 instead of 24 x 20\)"):
        pack_records(manifest, tmp_path / "train.rec")
    packed = pack_records(manifest, tmp_path / "train.rec", size=SIZE)
    records = RecordFile(tmp_path / "train.rec")
    for row in (0, 2, 3):
        assert bytes(records.payload(row)) == (manifest.root / manifest.filenames[row]).read_bytes()
    assert bytes(records.payload(1)[:3]) == b"\xff\xd8\xff"
    wanted = FaceDataset(manifest, size=SIZE, resize=True)[1].image
    got = RecordDataset(records, size=SIZE)[1].image
    assert (wanted.float() - got.float()).abs().mean() < 4
    assert packed.size == SIZE


def test_broken_images_are_left_out_and_told(tmp_path: Path) -> None:
    manifest = shuffled(write_faces(tmp_path / "faces", 9))
    for row in (2, 5):
        (manifest.root / manifest.filenames[row]).write_bytes(b"")
    packed = pack_records(manifest, tmp_path / "train.rec", on_broken="skip")
    assert packed.num_faces == 7
    assert sorted((face.row, face.filename, face.problem.reason) for face in packed.skipped) == [
        (row, manifest.filenames[row], "empty file") for row in (2, 5)
    ]
    records = RecordFile(tmp_path / "train.rec")
    assert sorted(records.record(int(key)).id2 for key in records.keys) == [0, 1, 3, 4, 6, 7, 8]
    assert records.num_identities == packed.num_identities == 3


class StopError(Exception):
    pass


@pytest.mark.parametrize("stops", [(4,), (1, 3, 8), (2, 2, 2, 9)])
@pytest.mark.parametrize("torn", [0, 1, 7])
def test_an_interrupted_pack_goes_on_and_ends_the_same(tmp_path: Path, stops: tuple[int, ...], torn: int) -> None:
    manifest = shuffled(write_faces(tmp_path / "faces", 10))
    (manifest.root / manifest.filenames[3]).write_bytes(b"")
    (tmp_path / "once").mkdir()
    pack_records(manifest, tmp_path / "once" / "train.rec", on_broken="skip")
    target = tmp_path / "twice" / "train.rec"
    target.parent.mkdir()
    for stop in stops:

        def interrupt(done: int, total: int, stop: int = stop) -> None:
            if done == stop:
                raise StopError

        with pytest.raises(StopError):
            pack_records(manifest, target, on_broken="skip", progress=interrupt)
        assert not target.exists()
        unfinished = target.with_name("train.rec.part")
        os.truncate(unfinished, max(unfinished.stat().st_size - torn, 0))  # as a crash leaves it
    packed = pack_records(manifest, target, on_broken="skip")
    assert [face.row for face in packed.skipped] == [3]
    for name in ("train.rec", "train.idx", "train.crc", "property"):
        assert (target.parent / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert len(list(target.parent.iterdir())) == 4


def test_ranges_that_were_interrupted_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, target = write_faces(tmp_path / "faces", 9), tmp_path / "train.rec"
    write = RecordWriter.write

    def interrupt(writer: RecordWriter, image: bytes, **options: int) -> int:
        if options["key"] == 11:
            raise StopError
        return write(writer, image, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", interrupt)
        with pytest.raises(StopError):
            pack_records(manifest, target)
    assert RecordFile(target.with_name("train.rec.part"), on_damage="skip").record(10).labels == (1.0, 4.0)
    pack_records(manifest, target)
    records = RecordFile(target)
    assert records.identities.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert records.record(0).labels == (10.0, 13.0)
    assert records.verify() == []


def test_what_another_pack_left_is_not_taken_over(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path / "faces", 6)

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise StopError

    with pytest.raises(StopError):
        pack_records(manifest, tmp_path / "train.rec", progress=interrupt)
    other = PlainManifest(manifest.root, manifest.filenames, manifest.identities, manifest.ages[::-1], manifest.genders)
    pack_records(other, tmp_path / "train.rec")
    np.testing.assert_array_equal(RecordFile(tmp_path / "train.rec").ages, other.ages)


@pytest.mark.dist
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("touched", [False, True])
def test_workers_read_the_same_faces(tmp_path: Path, context: str, touched: bool) -> None:
    manifest = write_faces(tmp_path / "faces", 40, suffix=".png")
    pack_records(manifest, tmp_path / "train.rec")
    records = RecordFile(tmp_path / "train.rec")
    if touched:
        records.payload(0)
    dataset = RecordDataset(records, size=SIZE)
    sampler = ShuffledSampler(40, global_batch_size=8, seed=2)
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate_faces, num_workers=2, multiprocessing_context=context
    )
    files = FaceDataset(manifest, size=SIZE)
    for batch in islice(loader, 5):
        wanted = collate_faces(files.__getitems__(batch.indices.tolist()))
        for got, want in zip(batch, wanted, strict=True):
            assert torch.equal(got, want)


def harmed(folder: Path, path: Path, generator: random.Random) -> Path:
    """A copy of a record file with its companions, one of which is harmed."""
    names = [suffix for suffix in (".rec", ".idx", ".crc") if path.with_suffix(suffix).exists()]
    chosen = generator.choice([".rec", ".rec", *names])
    for suffix in (".rec", ".idx", ".crc"):
        (folder / f"harmed{suffix}").unlink(missing_ok=True)
    for suffix in names:
        data = path.with_suffix(suffix).read_bytes()
        if suffix == chosen:
            _, data = pictures.broken(data, generator)
        (folder / f"harmed{suffix}").write_bytes(data)
    return folder / "harmed.rec"


FULL_DISK = """
import resource, signal, sys
from facemtl.data.record_writer import RecordWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    with RecordWriter(sys.argv[1], overwrite=True) as writer:
        for key in range(40):
            writer.write(bytes(1000), labels=key)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("limit", [500, 30_000, 41_100])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, limit: int) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(b"an image", labels=0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.rec"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


Truth = dict[int, tuple[bytes, int, float, int]]


def mutable_file(folder: Path) -> tuple[Path, Truth]:
    """A small packed set, with a record of several parts, and what is true of each key."""
    path, faces = folder / "train.rec", {}
    generator = random.Random(0)
    with RecordWriter(path) as writer:
        for key in range(1, 19):
            image = generator.randbytes(4 * generator.randrange(5, 20)) + (MAGIC_BYTES if key == 7 else b"") + b"end"
            faces[key] = (image, (key - 1) // 3, float(key), key % 2)
            writer.write(image, labels=faces[key][1:], key=key)
        names = json.dumps({"facemtl labels": ["identity", "age", "gender"]}).encode()
        writer.write(names, labels=(19, 25), key=0)
        for identity in range(6):
            writer.write(b"", labels=(1 + 3 * identity, 4 + 3 * identity), key=19 + identity)
    return path, faces


def judged(records: RecordFile, faces: Truth, *, complete: bool) -> tuple[int, int]:
    """Hold labels to the truth; gives how many identities are wrong, and how many ages or genders."""
    keys = records.keys.tolist()
    assert keys == sorted(set(keys))
    if complete:
        assert keys == sorted(faces)
    images = [bytes(records.payload(row)) for row in range(len(records))]
    assert all(images)
    by_image = {face[0]: face for face in faces.values()}
    ids = [records.record(key).id for key in keys]  # keys are places in the file where ids are damaged
    pairs = [(by_image.get(image, faces.get(ids[row])), row) for row, image in enumerate(images)]
    wrong = other = 0
    for face, row in pairs:
        if face is not None:
            wrong += records.identities[row] != face[1]
            other += not (np.isnan(records.ages[row]) or records.ages[row] == face[2])
            other += records.genders[row] not in (face[3], -1)
    return wrong, other


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("part", range(2))
def test_no_mutated_file_gives_a_wrong_label_without_a_word(tmp_path: Path, checksums: bool, part: int) -> None:
    (tmp_path / "sound").mkdir()
    path, faces = mutable_file(tmp_path / "sound")
    if not checksums:
        path.with_suffix(".crc").unlink()
    generator, refused, unseen, left, slipped = random.Random(part), 0, 0, 0, 0
    for _ in range(500):
        copy = harmed(tmp_path, path, generator)
        use_index = generator.random() < 0.7
        try:
            records = RecordFile(copy, use_index=use_index)
        except RecordError:
            refused += 1
        else:
            # Cut off just after a record, a file without index and checksums is a shorter file.
            wrong, other = judged(records, faces, complete=use_index or checksums)
            assert wrong == 0
            unseen += other
            if checksums:
                images = [bytes(records.payload(key - 1)) != faces[key][0] for key in faces]
                assert len(records.verify()) >= sum(images)
        try:
            rest = RecordFile(copy, use_index=use_index, on_damage="skip")
        except RecordError:  # more is damaged than sound, or the companions are
            continue
        wrong, other = judged(rest, faces, complete=False)
        slipped += wrong
        unseen += other
        left += len(rest) > 0
    assert refused > 250
    assert left > 150
    if checksums:
        assert (unseen, slipped) == (0, 0)
    else:
        assert unseen <= 20  # ages and genders, of which nothing tells without checksums
        assert slipped <= 1  # where a range has lost its other faces


def mutable_set(generator: random.Random, folder: Path) -> tuple[bytes, list[bytes], list[bool]]:
    images = [generator.randbytes(generator.randrange(1, 60)) for _ in range(12)]
    same = [generator.random() < 0.5 for _ in range(6)]
    content = [np.frombuffer(image, np.uint8) for image in images] if generator.random() < 0.5 else images
    return pickle.dumps((content, same), protocol=generator.choice((2, 3, 4, 5))), images, same


@pytest.mark.parametrize("part", range(2))
def test_mutated_verification_sets_are_refused_or_of_the_right_form(tmp_path: Path, part: int) -> None:
    generator, refused = random.Random(part), 0
    for _ in range(500):
        data, _, _ = mutable_set(generator, tmp_path)
        _, data = pictures.broken(data, generator)
        (tmp_path / "a.bin").write_bytes(data)
        try:
            found = read_verification_set(tmp_path / "a.bin")
        except RecordError:
            refused += 1
        else:
            assert len(found.images) == 2 * len(found.same)
            assert all(isinstance(image, bytes) and image for image in found.images)
    assert refused > 150


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    generator = random.Random(1)
    path = tmp_path / "a.rec"
    for _ in range(300):
        words = (MAGIC_BYTES, generator.randbytes(4), struct.pack("<I", generator.randrange(64)))
        path.write_bytes(b"".join(generator.choices(words, k=30)))
        lines = [b"%d\t%d\n" % (key, 4 * key) for key in range(generator.randrange(9))]
        path.with_suffix(".idx").write_bytes(b"".join(lines))
        for use_index in (True, False):
            for on_damage in ("raise", "skip"):
                with pytest.raises(RecordError):
                    RecordFile(path, use_index=use_index, on_damage=on_damage)


def test_broken_images_in_records_are_the_data_sets_affair(tmp_path: Path) -> None:
    manifest = write_faces(tmp_path / "faces", 12)
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        for row in range(12):
            data = (manifest.root / manifest.filenames[row]).read_bytes()
            writer.write(data[:200] if row == 5 else data, labels=int(manifest.identities[row]))
    dataset = RecordDataset(RecordFile(path), size=SIZE, on_broken="skip")
    assert dataset[4].index == 4
    assert dataset[5].index != 5
    with pytest.raises(BrokenImageError, match="'record 5': damaged file"):
        RecordDataset(RecordFile(path), size=SIZE)[5]


def test_offsets_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A file with holes: records that reach over 4 GiB and take no room on disk."""
    path, large = tmp_path / "large.rec", 2**28
    offsets = []
    with open(path, "wb") as file:
        for key in range(18):
            offsets.append(file.tell())
            header = recordio.packed(float(key), key, b"")
            file.write(MAGIC_BYTES + struct.pack("<I", large) + header + b"face %02d" % key)
            file.seek(offsets[-1] + 8 + large)
        file.truncate(file.tell())
    path.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    records = RecordFile(path)
    assert offsets[-1] > 2**32
    assert bytes(records.payload(17)[:7]) == b"face 17"
    assert bytes(records.payload(16)[:7]) == b"face 16"
    assert records.identities.tolist() == list(range(18))


def test_rounded_keys_beyond_float32_are_told_apart_by_their_images(tmp_path: Path) -> None:
    """As in glint360k: record 0 says 2^24 + 4 where the first range is 2^24 + 3, and ranges are rounded too."""
    faces = EXACT + 2
    first = faces + 1
    path = tmp_path / "train.rec"
    with RecordWriter(path) as writer:
        writer.write(b"", labels=(float(np.float32(first)), float(np.float32(first + 1))), key=0)
    data = path.read_bytes()
    keys = np.array([0, *range(1, faces + 1), first], np.int64)
    starts = np.full(len(keys), 32)
    ends = np.full(len(keys), 33)
    ends[[0, -1]] = 32
    labels = np.zeros((len(keys), 2), np.float32)
    labels[0], labels[-1] = (first, first + 1), (1, faces + 1)
    counts = np.where((keys == 0) | (keys == first), 2, 1)
    table = RecordTable(keys, keys, keys, starts, ends, counts, keys.astype(np.uint64), labels, {})
    damage = Damage(path)
    layout = find_layout(data, table, damage)
    assert layout is not None
    assert float(np.float32(first)) != first == layout.first_range
    good = face_rows(table, layout, damage)
    assert int(good.sum()) == faces
    assert range_rows(table, good, 0, layout, damage).all()
    assert damage.count == 0


def python2_pickle(images: list[bytes], same: list[bool], *, arrays: bool) -> bytes:
    """What Python 2's cPickle wrote with protocol 2: byte strings, and arrays by way of `numpy.core`."""
    out = io.BytesIO()
    out.write(b"\x80\x02]q\x01(")
    for number, image in enumerate(images):
        text = b"T" + struct.pack("<I", len(image)) + image
        if not arrays:
            out.write(text)
            continue
        if number == 0:
            out.write(b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03")
        else:
            out.write(b"h\x02h\x03")
        out.write(b"K\0\x85U\x01b\x87R(K\x01K" + bytes([len(image)]) + b"\x85")
        if number == 0:
            out.write(
                b"cnumpy\ndtype\nq\x04U\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbq\x05"
            )
        else:
            out.write(b"h\x05")
        out.write(b"\x89" + text + b"tb")
    out.write(b"e](" + b"".join(b"\x88" if value else b"\x89" for value in same) + b"e\x86.")
    return out.getvalue()


@pytest.mark.parametrize("arrays", [False, True])
def test_verification_sets_of_python_2(tmp_path: Path, arrays: bool) -> None:
    images, same = [b"\xff\xd8one", b"\x80\x90two", b"three", b"four"], [True, False]
    data = python2_pickle(images, same, arrays=arrays)
    found_images, found_same = pickle.loads(data, encoding="bytes")  # the sample is what Python takes it for
    assert [bytes(image) for image in found_images] == images
    assert found_same == same
    (tmp_path / "lfw.bin").write_bytes(data)
    found = read_verification_set(tmp_path / "lfw.bin")
    assert found.images == images
    assert found.same.tolist() == same


def test_real_photographs_go_through_records(tmp_path: Path) -> None:
    folder = SHARED / "faces" / "lfw"
    if not folder.is_dir():
        pytest.skip("the real photographs are not on this machine")
    lines = [line.split() for line in (folder / "labels.txt").read_text().splitlines()[:150]]
    names = [line[1] for line in lines]
    root = folder if (folder / names[0]).exists() else folder.parent
    _, identities = np.unique([line[0] for line in lines], return_inverse=True)
    manifest = PlainManifest(
        root,
        names,
        identities.astype(np.int64),
        np.array([line[2] for line in lines], np.float32),
        np.array([line[3] for line in lines], np.int8),
    )
    packed = pack_records(manifest, tmp_path / "train.rec")
    assert packed.size == (250, 250)
    assert packed.num_faces == 150
    records = RecordFile(tmp_path / "train.rec")
    assert records.verify() == []
    from_records, from_files = RecordDataset(records, size=(250, 250)), FaceDataset(manifest, size=(250, 250))
    for row in range(0, 150, 10):
        source = records.record(int(records.keys[row])).id2
        assert bytes(records.payload(row)) == (root / names[source]).read_bytes()
        mine, theirs = from_records[row], from_files[source]
        assert torch.equal(mine.image, theirs.image)
        assert mine[1:4] == theirs[1:4]
