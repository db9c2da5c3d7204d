"""The faces that ship with facemtl: 256 people who do not exist, at eight ages each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facemtl.data.datasets import FaceDataset
from facemtl.data.manifest import read_manifest

BUNDLED_FOLDER = Path(__file__).parent / "bundled"


def bundled_faces(**options: Any) -> FaceDataset:
    """Give the faces inside the package: data for a first run, without extras, network or anybody's consent.

    2,048 aligned crops of 112×112: 256 synthetic people, 131 of them women, at eight ages from 3 to 83 years each.
    ``python -m facemtl.data.synthetic.bundle`` rendered them. For more of the kind, of other people, see
    :class:`facemtl.SyntheticFaces` with ``first_identity=256``.

    Args:
        options: Of :class:`facemtl.FaceDataset`.

    Example:
        >>> faces = bundled_faces()
        >>> len(faces), faces.manifest.num_identities, faces[0].image.shape
        (2048, 256, torch.Size([3, 112, 112]))
    """
    return FaceDataset(read_manifest(BUNDLED_FOLDER / "manifest.csv", check_files=False), **options)
