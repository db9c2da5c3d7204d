"""A label file and a folder of images that were made apart: the faces that are in both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemtl.data.label_tokens import AgeRanges
from facemtl.data.manifest import Manifest, ManifestFormat, OnProblem, read_manifest
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.packed_names import PackedNames
from facemtl.data.photograph_list import list_photographs

_EXAMPLES = 3


class JoinedLabels(NamedTuple):
    """The faces that have both an image and a label."""

    manifest: Manifest
    """Of the images in the folder, in the order of the label file."""

    labels_without_image: int
    """Rows of the label file whose image is not in the folder."""

    images_without_label: int
    """Images in the folder that the label file does not mention."""


def join_labels(
    labels: str | Path,
    images: str | Path,
    *,
    format: ManifestFormat = "auto",  # noqa: A002 - as read_manifest calls it
    ignore_suffix: bool = False,
    on_problem: OnProblem = "raise",
    age_ranges: AgeRanges = "refuse",
) -> JoinedLabels:
    r"""Join a label file with a folder of images by the files' names.

    LCAF, SCAF, MS1M and CASIA come so: ages and genders in a file of lines, images extracted from a record file, and
    seldom quite the same faces in both. What is on one side alone is counted and left out, where
    :func:`facemtl.read_manifest` takes a missing image for a fault.

    Args:
        labels: Label file in any form that :func:`facemtl.read_manifest` reads.
        images: Folder that its names are relative to; becomes the manifest's ``root``.
        format: Form of the label file.
        ignore_suffix: Whether ``a/1.jpg`` may be labelled as ``a/1.png``, as where images were extracted to another
            format.
        on_problem: What becomes of faults in the label file, as for :func:`facemtl.read_manifest`.
        age_ranges: As for :func:`facemtl.read_manifest`.

    Returns:
        :class:`~facemtl.data.join_labels.JoinedLabels`.

    Raises:
        ManifestError: If the label file has faults, or nothing is on both sides.
        ValueError: If there is no image, or two images are told apart by their suffixes alone, which are ignored.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "labels.txt").write_text("7 7/0.jpg 31 1\n7 7/1.jpg 35 1\n")
        >>> (folder / "images" / "7").mkdir(parents=True)
        >>> for name in ("0.jpg", "2.jpg"):
        ...     (folder / "images" / "7" / name).touch()
        >>> joined = join_labels(folder / "labels.txt", folder / "images")
        >>> list(joined.manifest.filenames), joined.labels_without_image, joined.images_without_label
        (['7/0.jpg'], 1, 1)
    """
    if not Path(images).is_dir():
        raise ValueError(f"join_labels: 'images' must be a folder, got {str(images)!r}.")
    manifest = read_manifest(
        labels, root=images, format=format, check_files=False, on_problem=on_problem, age_ranges=age_ranges
    )
    present = _by_key(images, ignore_suffix)
    found = [present.get(_key(name, ignore_suffix)) for name in manifest.filenames]
    kept = np.array([name is not None for name in found], np.bool_)
    names = [name for name in found if name is not None]
    if not names:
        examples = ", ".join(repr(name) for name in list(present.values())[:_EXAMPLES])
        raise ManifestError(
            f"join_labels: expected names that are in both {str(labels)!r} and {str(images)!r}, got labels such as "
            f"{manifest.filenames[0]!r} and images such as {examples}. Are names relative to this folder?"
        )
    if len(set(names)) < len(names):
        raise ValueError(
            f"join_labels: with ignore_suffix=True each image must have one label, but {str(labels)!r} has rows that "
            "differ in their suffix alone. Remove one of each."
        )
    joined = manifest.select(kept)
    joined = Manifest(
        Path(images),
        PackedNames.pack(names),
        joined.identities,
        joined.ages,
        joined.genders,
        joined.identity_names,
        manifest.problems,
    )
    return JoinedLabels(joined, int((~kept).sum()), len(present) - len(names))


def _by_key(images: str | Path, ignore_suffix: bool) -> dict[str, str]:
    """Names of the images that can be read, by what they are joined by."""
    present: dict[str, str] = {}
    for photograph in list_photographs(images).photographs:
        if photograph.refusal is not None:
            continue
        key = _key(photograph.name, ignore_suffix)
        other = present.setdefault(key, photograph.name)
        if other != photograph.name:
            raise ValueError(
                f"join_labels: with ignore_suffix=True images must differ in more than their suffix, got {other!r} and "
                f"{photograph.name!r}."
            )
    return present


def _key(name: str, ignore_suffix: bool) -> str:
    return os.path.splitext(name)[0] if ignore_suffix else name
