"""What is checked and noted before images are packed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from facemtl._core.whole_files import stage
from facemtl.data.datasets import LabelledFiles
from facemtl.data.face_layout import EXACT


def check_options(
    size: tuple[int, int] | None, quality: int, labels: str, identity_ranges: bool, on_broken: str
) -> None:
    """Raise unless all options are in their range."""
    if on_broken not in ("raise", "skip"):
        raise ValueError(f'pack_records: \'on_broken\' must be "raise" or "skip", got {on_broken!r}.')
    if labels not in ("all", "identity"):
        raise ValueError(f'pack_records: \'labels\' must be "all" or "identity", got {labels!r}.')
    if size is not None and min(size) < 1:
        raise ValueError(f"pack_records: 'size' must be a positive height and width, got {size}.")
    if not 1 <= quality <= 100:
        raise ValueError(f"pack_records: 'quality' must lie in [1, 100], got {quality}.")
    if labels == "all" and not identity_ranges:
        raise ValueError(
            "pack_records: 'labels' must be \"identity\" without ranges, got 'all'. Without record 0 a file cannot say "
            "what its labels are."
        )


def check_faces(manifest: LabelledFiles, labels: str, identity_ranges: bool) -> None:
    """Raise unless all labels can stand in records."""
    count, identities = len(manifest.filenames), manifest.identities
    if count == 0 or len(identities) != count:
        raise ValueError(
            f"pack_records: there must be faces with one identity each, got {count} and {len(identities)}."
        )
    most = int(identities.max())
    wrong = [("identities", "be 0 or more and exact in float32", (identities < 0) | (identities > EXACT))]
    if labels == "all":
        ages, genders = manifest.ages, manifest.genders
        wrong.append(("ages", "lie in [0, 100] years or be NaN", ~((ages >= 0) & (ages <= 100) | np.isnan(ages))))
        wrong.append(("genders", "be 1, 0 or −1", ~np.isin(genders, (-1, 0, 1))))
    for name, wanted, rows in wrong:
        if rows.any():
            row = int(rows.argmax())
            raise ValueError(f"pack_records: '{name}' must {wanted}, got {getattr(manifest, name)[row]} at row {row}.")
    if identity_ranges and count + most + 2 > EXACT:
        raise ValueError(
            f"pack_records: keys must be at most 2^24 = {EXACT:,} for ranges, which are float32, got {count:,} faces "
            f'of {most + 1:,} identities. Pass identity_ranges=False and labels="identity".'
        )


def plan_digest(manifest: LabelledFiles, *options: object) -> bytes:
    """What makes two calls pack the same."""
    digest = hashlib.sha256(repr(options).encode())
    for column in (manifest.identities, manifest.ages, manifest.genders):
        digest.update(np.ascontiguousarray(column).tobytes())
    for row in range(len(manifest.filenames)):
        digest.update(manifest.filenames[row].encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest().encode()


def keep_plan(plan: Path, unfinished: Path, digest: bytes) -> None:
    """Note what is packed, and forget what an interrupted call left if that packed something else."""
    if plan.exists() and plan.read_bytes() == digest:
        return
    unfinished.unlink(missing_ok=True)
    os.replace(stage(digest, staging=plan.parent, durable=True), plan)
