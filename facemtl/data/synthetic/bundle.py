"""Render the faces that ship with facemtl: ``python -m facemtl.data.synthetic.bundle [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from facemtl.data.bundled import BUNDLED_FOLDER
from facemtl.data.synthetic.folder import SynthesisSettings, synthesize_folder

BUNDLE = SynthesisSettings(num_identities=256, faces_per_identity=8, seed=0, quality=85)


def main() -> None:
    """Render into the folder on the command line, by default the package's own."""
    torch.set_num_threads(1)
    folder = synthesize_folder(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED_FOLDER, BUNDLE, workers=2)
    print(f"{folder.faces} faces, {folder.new} new: {folder.sheet}")


if __name__ == "__main__":
    main()
