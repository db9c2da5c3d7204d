"""Write record files of MXNet's kind, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from facemtl._core.whole_files import UNFINISHED, stage
from facemtl.data.record_checksums import CHECKSUMS, checksums_bytes, checksums_path
from facemtl.data.record_format import MAGIC_BYTES, find_parts, frame_record
from facemtl.data.record_header import pack_header, unpack_header
from facemtl.data.record_index import index_text

_MOST_READ = 2**20


class RecordWriter:
    """Write a ``.rec`` file with its index (``.idx``) and checksums (``.crc``) beside it.

    What a ``with`` block writes lies in an unfinished file until the block ends, and then appears under its name; if
    the block raises, nothing appears. MXNet and insightface read the result, and do not look at the checksums.

    Args:
        path: The file, ``.rec``.
        overwrite: Replace a file of this name. Until the end of the block that stays as it is.
        resume: Go on with the unfinished file that an interrupted writer left, after the last record that it holds
            whole, and leave it if this one is interrupted too. ``keys`` tells what is there.

    Raises:
        FileExistsError: If there is such a file and ``overwrite`` is not given.
        OSError: If the file cannot be written.
        ValueError: If the file's name does not end in ``.rec``.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "faces.rec"
        >>> with RecordWriter(path) as writer:
        ...     writer.write(b"an image file", labels=[3, 27.5, 1])
        0
        >>> sorted(file.name for file in path.parent.iterdir())
        ['faces.crc', 'faces.idx', 'faces.rec']
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, resume: bool = False) -> None:
        self.path, self._resume = Path(path), resume
        if self.path.suffix != ".rec":
            raise ValueError(f"RecordWriter: the name must end in '.rec', got {str(path)!r}.")
        if not overwrite and self.path.exists():
            raise FileExistsError(f"RecordWriter: {str(path)!r} exists. Pass overwrite=True, or another name.")
        self.unfinished = self.path.with_name(self.path.name + UNFINISHED)
        self._file: IO[bytes] | None = None
        self._position, self._known = 0, set[int]()
        self._keys, self._id2s, self._offsets = array("q"), array("Q"), array("q")
        self._header_sums, self._image_sums = array("L"), array("L")

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """Keys of the records so far, in the order in which they were written."""
        return np.array(self._keys, np.int64)

    @property
    def id2s(self) -> npt.NDArray[np.uint64]:
        """The second number of each of them."""
        return np.array(self._id2s, np.uint64)

    def __len__(self) -> int:
        return len(self._keys)

    def __enter__(self) -> RecordWriter:
        if self._resume and self.unfinished.exists():
            self._file = open(self.unfinished, "r+b")
            self._recover(self._file)
        else:
            self._file = self._create()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                if kind is None:
                    self._finish(file)
        finally:
            if not self._resume:
                with contextlib.suppress(FileNotFoundError):
                    self.unfinished.unlink()

    def write(
        self,
        image: bytes | memoryview,
        *,
        labels: float | int | Sequence[float | int],
        key: int | None = None,
        id2: int = 0,
    ) -> int:
        """Append a record.

        Args:
            image: The image file.
            labels: One label as a number, or a sequence of labels. They are kept as float32.
            key: Under which it is found, also kept as the header's id; one more than the last by default.
            id2: Another number, which readers here and elsewhere ignore.

        Returns:
            The key.

        Raises:
            ValueError: If the key was used before or is negative, the record too long, or a label not a float32.
            OSError: If the disk is full, say.
        """
        if self._file is None:
            raise ValueError("RecordWriter.write: the writer must be open, got a call outside its 'with' block.")
        if key is None:
            key = self._keys[-1] + 1 if self._keys else 0
        if key in self._known or not 0 <= key < 2**63:
            raise ValueError(f"RecordWriter.write: 'key' must be new and in [0, 2^63), got {key}.")
        header, content = pack_header(labels, number=key, second=id2), bytes(image)
        framed = frame_record(header + content)
        self._file.write(framed)
        self._note(key, id2, header, content)
        self._position += len(framed)
        return key

    def rewind(self, num_records: int) -> None:
        """Forget all records but the first ``num_records``.

        Raises:
            ValueError: If there are fewer, or the writer is not open.
        """
        if self._file is None or not 0 <= num_records <= len(self):
            raise ValueError(
                f"RecordWriter.rewind: 'num_records' must lie in [0, {len(self)}] of an open writer, got {num_records}."
            )
        if num_records == len(self):
            return
        self._position = self._offsets[num_records]
        self._file.seek(self._position)
        self._file.truncate()
        self._known.difference_update(self._keys[num_records:])
        for column in (self._keys, self._id2s, self._offsets, self._header_sums, self._image_sums):
            del column[num_records:]

    def _create(self) -> IO[bytes]:
        try:
            return open(self.unfinished, "x+b")
        except FileExistsError as error:
            raise FileExistsError(
                f"RecordWriter: {str(self.unfinished)!r} exists: another writer is at work, or was interrupted. "
                "Remove it, or pass resume=True to go on with it."
            ) from error

    def _note(self, key: int, id2: int, header: bytes, image: bytes) -> None:
        self._known.add(key)
        self._keys.append(key)
        self._id2s.append(id2)
        self._offsets.append(self._position)
        self._header_sums.append(zlib.crc32(header))
        self._image_sums.append(zlib.crc32(image))

    def _recover(self, file: IO[bytes]) -> None:
        """Take over the records that an unfinished file holds whole, and cut off the rest."""
        size = os.fstat(file.fileno()).st_size
        while (record := _next_record(file, self._position, size)) is not None:
            data, end = record
            header = unpack_header(data)
            if isinstance(header, str) or header.id in self._known or header.id >= 2**63:
                break
            self._note(header.id, header.id2, data[: header.size], data[header.size :])
            self._position = end
        file.truncate(self._position)
        file.seek(self._position)

    def _finish(self, file: IO[bytes]) -> None:
        """Move everything to its place: at each moment a record file is whole, and has its own index or none."""
        file.flush()
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size != self._position:
            raise OSError(
                f"RecordWriter: {str(self.unfinished)!r} must be {self._position:,} bytes long, got "
                f"{os.fstat(file.fileno()).st_size:,}. Does another process write it?"
            )
        file.close()
        sums = np.zeros(len(self._keys), CHECKSUMS)
        sums["offset"], sums["header"], sums["image"] = self._offsets, self._header_sums, self._image_sums
        index, checksums = self.path.with_suffix(".idx"), checksums_path(self.path)
        staged: list[Path] = []
        try:
            for content in (checksums_bytes(sums), index_text(self.keys, sums["offset"])):
                staged.append(stage(content, staging=self.path.parent, durable=True))
            for old in (index, checksums):  # those of a file that is replaced would not fit the new one
                old.unlink(missing_ok=True)
            os.replace(self.unfinished, self.path)
            os.replace(staged[0], checksums)
            os.replace(staged[1], index)
        finally:
            for unfinished in staged:
                unfinished.unlink(missing_ok=True)


def _next_record(file: IO[bytes], offset: int, size: int) -> tuple[bytes, int] | None:
    """The whole record at ``offset`` and where it ends; None if there is none."""
    reach = _MOST_READ
    while offset + 8 <= size:
        file.seek(offset)
        data = file.read(min(reach, size - offset))
        parts = find_parts(data, 0, len(data))
        if not isinstance(parts, str):
            return parts.join(data), offset + parts.end
        if not data.startswith(MAGIC_BYTES) or len(data) == size - offset:
            return None
        reach *= 2
    return None
