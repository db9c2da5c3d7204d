"""RecordIO and insightface's use of it, written a second time from the format's description, in plain loops."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import NamedTuple

MAGIC = bytes([0x0A, 0x23, 0xD7, 0xCE])


class Unpacked(NamedTuple):
    """A record as MXNet's unpack gives it."""

    labels: list[float]
    id: int
    image: bytes


def next_record(stream: io.BufferedIOBase) -> bytes | None:
    """Read a record, part after part."""
    content = b""
    while True:
        frame = stream.read(8)
        if not frame:
            return None
        assert frame[:4] == MAGIC
        word = int.from_bytes(frame[4:], "little")
        kind, length = word // 2**29, word % 2**29
        part = stream.read(length)
        assert len(part) == length
        assert stream.read((4 - length % 4) % 4).strip(b"\0") == b""
        content += part
        if kind in (0, 3):
            return content
        content += MAGIC


def all_records(data: bytes) -> list[bytes]:
    stream, found = io.BytesIO(data), []
    while (record := next_record(stream)) is not None:
        found.append(record)
    return found


def write_record(content: bytes) -> bytes:
    """Write a record word by word, as dmlc's writer goes."""
    parts, part, place = [], b"", 0
    while place < len(content):
        word = content[place : place + 4]
        if word == MAGIC:
            parts.append(part)
            part = b""
        else:
            part += word
        place += 4
    parts.append(part)
    out = b""
    for number, part in enumerate(parts):
        kind = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        out += MAGIC + (kind * 2**29 + len(part)).to_bytes(4, "little") + part + bytes((4 - len(part) % 4) % 4)
    return out


def packed(labels: float | list[float], number: int, image: bytes) -> bytes:
    """MXNet's pack."""
    if isinstance(labels, list):
        return struct.pack("<IfQQ", len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels) + image
    return struct.pack("<IfQQ", 0, labels, number, 0) + image


def unpacked(record: bytes) -> Unpacked:
    """MXNet's unpack."""
    flag, label, number, _ = struct.unpack("<IfQQ", record[:24])
    if flag == 0:
        return Unpacked([label], number, record[24:])
    return Unpacked(list(struct.unpack(f"<{flag}f", record[24 : 24 + 4 * flag])), number, record[24 + 4 * flag :])


def write_file(path: Path, records: dict[int, bytes]) -> Path:
    """A record file and its index, in the order of ``records``, whose keys are theirs."""
    data, lines = b"", ""
    for key, record in records.items():
        lines += f"{key}\t{len(data)}\n"
        data += write_record(record)
    path.write_bytes(data)
    path.with_suffix(".idx").write_text(lines)
    return path


def insightface_records(identities: list[int], *, aligned: bool = True) -> dict[int, bytes]:
    """Records of a training set as insightface's face2rec2 writes them: images, record 0, ranges of identities.

    Images are short texts; labels have two numbers where faces are aligned, as insightface's have.
    """
    records, ranges, start = {}, [], 1
    for key, identity in enumerate(identities, 1):
        label: float | list[float] = [float(identity), 1.0] if aligned else float(identity)
        records[key] = packed(label, key, f"image {key}".encode() * 3)
        if key == len(identities) or identities[key] != identity:
            ranges.append([float(start), float(key + 1)])
            start = key + 1
    first = len(identities) + 1
    records[0] = packed([float(first), float(first + len(ranges))], 0, b"")
    for place, bounds in enumerate(ranges):
        records[first + place] = packed(bounds, first + place, b"")
    return records


def insightface_loader(path: Path) -> tuple[list[tuple[bytes, int]], dict[int, tuple[int, int]]]:
    """Images with their labels, and the ranges, as insightface's two loaders find them."""
    offsets = dict(tuple(map(int, line.split("\t"))) for line in path.with_suffix(".idx").read_text().splitlines())

    def read(key: int) -> Unpacked:
        with path.open("rb") as stream:
            stream.seek(offsets[key])
            record = next_record(stream)
            assert record is not None
            return unpacked(record)

    header = read(0)
    if len(header.labels) < 2:  # insightface looks at the flag
        keys, ranges = list(offsets), {}
    else:
        first, last = (int(label) for label in header.labels)
        keys = list(range(1, first))
        ranges = {key - first: tuple(int(label) for label in read(key).labels) for key in range(first, last)}
    return [(read(key).image, int(read(key).labels[0])) for key in keys], ranges
