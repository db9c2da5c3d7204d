"""How many records a second does a memory map give, against seeking, reading and unpacking each?

The other side is what one writes first: look up the offset, seek, read the frame, read the record, unpack its header,
cut off the image. Both sides visit the same records in the same random order, from a file that the system has in
memory, on one thread, and end with the image's bytes at hand and its identity. Ours gives a view; the second line
looks at its first and last byte; the third copies it, as a decoder that wants bytes needs.

    python benchmarks/records.py [--records 200000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks._timing import compare
from facemtl import RecordFile, RecordWriter


class SeekAndRead:
    """The plain way."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "rb")  # noqa: SIM115
        lines = path.with_suffix(".idx").read_text().splitlines()
        self.offsets = dict(tuple(map(int, line.split("\t"))) for line in lines)

    def image(self, key: int) -> tuple[bytes, int]:
        """Image and identity of a record."""
        self.file.seek(self.offsets[key])
        magic, word = struct.unpack("<II", self.file.read(8))
        if magic != 0xCED7230A:
            raise ValueError(key)
        record = self.file.read(word & (2**29 - 1))
        flag, label, _, _ = struct.unpack("<IfQQ", record[:24])
        if flag:
            label = np.frombuffer(record, np.float32, flag, 24)[0]
        return record[24 + 4 * flag :], int(label)


def write_file(path: Path, num_records: int) -> None:
    """Images of the sizes that aligned faces have as JPEGs, in insightface's layout."""
    random = np.random.default_rng(0)
    noise = random.bytes(20_000)
    sizes = np.clip(random.normal(5_000, 1_000, num_records), 1_000, 12_000).astype(int).tolist()
    with RecordWriter(path) as writer:
        for key, size in enumerate(sizes, 1):
            writer.write(noise[key % 5_000 :][:size], labels=((key - 1) // 20, 30.0, 1), key=key)
        last = num_records + 1
        writer.write(b"", labels=(last, last + -(-num_records // 20)), key=0)
        for place, start in enumerate(range(1, last, 20)):
            writer.write(b"", labels=(start, min(start + 20, last)), key=last + place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.rec"
        write_file(path, options.records)
        print(f"{options.records:,} records, {path.stat().st_size / 1e6:,.0f} MB")
        report(path, options.records, options.rounds)


def report(path: Path, num_records: int, rounds: int) -> None:
    plain, records = SeekAndRead(path), RecordFile(path)
    order = np.random.default_rng(1).permutation(num_records).tolist()
    identities = records.identities
    for index in order[:1000]:
        image, identity = plain.image(index + 1)
        assert image == records.payload(index)
        assert identity == identities[index]

    def seek_and_read() -> None:
        for index in order:
            plain.image(index + 1)

    def views() -> None:
        payload, identity = records.payload, identities.item
        for index in order:
            payload(index), identity(index)

    def copies() -> None:
        payload, identity = records.payload, identities.item
        for index in order:
            bytes(payload(index)), identity(index)

    def ends() -> None:
        payload, identity = records.payload, identities.item
        for index in order:
            view = payload(index)
            view[0] + view[-1], identity(index)

    sides: list[tuple[str, Callable[[], None]]] = [
        ("view and identity", views),
        ("view, its first and last byte", ends),
        ("copy and identity", copies),
    ]
    for name, side in sides:
        result = compare(seek_and_read, side, rounds=rounds)
        rate = num_records / result.candidate_seconds
        print(f"{name:32} {result}; {1e6 / rate:.2f} us a record, {rate:,.0f} a second")
    for name, options in (("with its index", {}), ("without it", {"use_index": False})):
        start = time.perf_counter()
        RecordFile(path, **options)
        seconds = time.perf_counter() - start
        print(f"opening {name}, checksums of labels held: {seconds / num_records * 1e6:.2f} us a record")


if __name__ == "__main__":
    main()
