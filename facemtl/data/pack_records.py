"""Pack the images of a manifest into one record file, as insightface lays out its training sets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl._core.whole_files import UNFINISHED, stage
from facemtl.data.datasets import LabelledFiles
from facemtl.data.face_layout import COLUMNS, header_image
from facemtl.data.pack_plan import check_faces, check_options, keep_plan, plan_digest
from facemtl.data.packed_images import PackedImages
from facemtl.data.photographs import PhotographError
from facemtl.data.record_writer import RecordWriter

_NO_FACE = 2**64 - 1


class SkippedFace(NamedTuple):
    """A face that was not packed."""

    row: int
    """Place in the manifest."""
    filename: str
    problem: PhotographError


class PackedRecords(NamedTuple):
    """What :func:`pack_records` wrote."""

    path: Path
    num_faces: int
    num_identities: int
    size: tuple[int, int]
    """Height and width of all images."""
    skipped: list[SkippedFace]
    """Faces whose images are broken."""


def pack_records(
    manifest: LabelledFiles,
    destination: str | Path,
    *,
    size: tuple[int, int] | None = None,
    quality: int = 95,
    labels: Literal["all", "identity"] = "all",
    identity_ranges: bool = True,
    on_broken: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PackedRecords:
    """Pack the images of a manifest into a ``.rec`` file with ``.idx``, ``.crc`` and ``property`` beside it.

    Insightface's loaders read it: faces have the keys from 1, sorted by identity; record 0 tells where the ranges
    start, one record for each identity with the keys of its faces; ``property`` says ``identities,height,width``. Each
    image is decoded once, so that none is broken, and written byte for byte as its file is, unless it must be scaled.
    ``id2`` of a record is the face's row in the manifest.

    A call that was interrupted, or stopped at a broken image, goes on from there when it is repeated; what it has is
    kept in files that end in ``.part``. Under the final names nothing appears before all is written.

    Args:
        manifest: Names and labels of the faces; see :func:`facemtl.read_manifest`.
        destination: The ``.rec`` file. Name it ``train.rec`` for insightface.
        size: Height and width that images are scaled to, if they are not of it already, and then written as JPEG. By
            default all must have the size of the first.
        quality: Of the JPEGs of images that were scaled, 1 to 100.
        labels: ``"all"`` writes vectors (identity, age, gender), of which insightface takes the first;
            ``"identity"`` writes the identity as a number. Unknown ages are NaN, unknown genders −1.
        identity_ranges: Whether to write record 0 and the ranges. They are float32, so that at most 2^24 records can
            have them; without, a file holds faces alone, from key 0 on, and ``labels`` must be ``"identity"``.
        on_broken: ``"raise"``, or ``"skip"`` to leave out images that cannot be read or have another size.
        overwrite: Replace a file of this name.
        progress: Called with the number of faces done and of all, after each face.

    Returns:
        Numbers of faces and identities, and what was left out.

    Example:
        >>> import tempfile, pathlib
        >>> from types import SimpleNamespace
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png", "c.png"):
        ...     Image.new("RGB", (112, 112), "teal").save(root / name)
        >>> manifest = SimpleNamespace(  # as read_manifest gives it
        ...     root=root, filenames=["a.png", "b.png", "c.png"], identities=np.array([1, 0, 1]),
        ...     ages=np.array([8, 31, np.nan], np.float32), genders=np.array([1, 0, 1], np.int8))
        >>> pack_records(manifest, root / "train.rec").num_faces
        3
        >>> from facemtl.data.records import RecordFile
        >>> records = RecordFile(root / "train.rec")
        >>> records.identities, records.ages
        (array([0, 1, 1]), array([31.,  8., nan], dtype=float32))

    Raises:
        PhotographError: If an image is broken and ``on_broken`` is ``"raise"``.
        FileExistsError: If there is such a file and ``overwrite`` is not given.
        ValueError: If an option is out of its range, an identity unknown, or there are too many records for ranges.
        OSError: If the disk is full, say.
    """
    check_options(size, quality, labels, identity_ranges, on_broken)
    check_faces(manifest, labels, identity_ranges)
    destination, first_key = Path(destination), int(identity_ranges)
    writer = RecordWriter(destination, overwrite=overwrite, resume=True)
    plan = destination.with_name(f"{destination.name}.plan{UNFINISHED}")
    keep_plan(plan, writer.unfinished, plan_digest(manifest, size, quality, labels, identity_ranges, on_broken))
    packer = PackedImages(manifest, size, quality, vectors=labels == "all")
    with writer:
        skipped = _write_faces(writer, packer, first_key, on_broken, progress)
        packed = np.array(writer.id2s, np.int64)
        if identity_ranges:
            _write_ranges(writer, manifest.identities[packed], COLUMNS if labels == "all" else COLUMNS[:1])
    plan.unlink(missing_ok=True)
    num_identities = int(manifest.identities.max()) + 1
    height, width = packer.size
    text = f"{num_identities},{height},{width}\n".encode()
    os.replace(stage(text, staging=destination.parent, durable=True), destination.with_name("property"))
    return PackedRecords(destination, len(packed), num_identities, (height, width), skipped)


def _write_faces(
    writer: RecordWriter,
    packer: PackedImages,
    first_key: int,
    on_broken: Literal["raise", "skip"],
    progress: Callable[[int, int], None] | None,
) -> list[SkippedFace]:
    """Write all faces, sorted by identity, but those that an interrupted call has written."""
    order = np.argsort(packer.manifest.identities, kind="stable").tolist()
    faces = writer.id2s != _NO_FACE
    writer.rewind(int(faces.argmin()) if not faces.all() else len(faces))
    done = writer.id2s.astype(np.int64).tolist()
    packed, last = set(done), done[-1] if done else None
    beyond = last is None  # whether this row comes after all that were written
    if done:
        packer.image(done[0])  # settles the size
    skipped: list[SkippedFace] = []
    for place, row in enumerate(order):
        if row not in packed:
            try:
                image = packer.image(row)
                if not beyond:
                    raise PhotographError(packer.path(row), "was broken when those after it were packed")
                writer.write(image, labels=packer.labels(row), key=first_key + len(writer), id2=row)
            except PhotographError as problem:
                if on_broken == "raise":
                    raise
                skipped.append(SkippedFace(row, packer.manifest.filenames[row], problem))
        beyond = beyond or row == last
        if progress is not None:
            progress(place + 1, len(order))
    if not len(writer):
        raise ValueError(f"pack_records: some image must be whole, got none of {len(order):,}; {skipped[0].problem}")
    return skipped


def _write_ranges(writer: RecordWriter, identities: npt.NDArray[np.int64], columns: tuple[str, ...]) -> None:
    """Write record 0 and, for each identity, which keys its faces have: insightface's index of identities."""
    num_identities = int(identities.max()) + 1
    first = len(identities) + 1
    bounds = 1 + np.searchsorted(identities, np.arange(num_identities + 1))
    writer.write(header_image(columns), labels=(first, first + num_identities), key=0, id2=_NO_FACE)
    for identity in range(num_identities):
        start, end = bounds[identity : identity + 2].tolist()
        writer.write(b"", labels=(start, end), key=first + identity, id2=_NO_FACE)
