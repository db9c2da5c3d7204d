"""The manifest that a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from facemtl.cli.messages import count, say
from facemtl.data.manifest import Manifest, read_manifest


@dataclass(kw_only=True)
class ManifestCommand:
    """What all commands that read a manifest have in common."""

    continues: ClassVar[bool] = False

    manifest: Annotated[Path, tyro.conf.arg(metavar="MANIFEST")]
    """Lines `id filename age gender`, CSV with named columns, or Parquet."""

    root: Path | None = None
    """Folder that the names are relative to; by default the manifest's."""

    on_problem: Literal["raise", "drop"] = "raise"
    """Faulty rows: list all of them and stop, or leave them out."""

    age_ranges: Literal["refuse", "midpoint"] = "refuse"
    """Ages such as 20-29: a fault, or the middle."""

    check_files: bool = True
    """Look whether the files exist."""

    debug: bool = False
    """Show the traceback of an error (or set FACEMTL_DEBUG)."""

    def read(self) -> Manifest:
        """Read it, and say what was left out."""
        manifest = read_manifest(
            self.manifest,
            root=self.root,
            check_files=self.check_files,
            on_problem=self.on_problem,
            age_ranges=self.age_ranges,
        )
        unit = "row" if self.manifest.suffix.lower() in (".parquet", ".pq") else "line"
        for problem in manifest.problems[:10]:
            say(f"Left out: {unit} {problem.line}: {problem}")
        if len(manifest.problems) > 10:
            say(f"Left out: {count(len(manifest.problems) - 10, 'more fault')}; --on-problem raise lists all.")
        return manifest

    def read_for(self, output: Path) -> Manifest:
        """Read it, and make the folder of ``output`` at once: not to find after hours of work that there is none."""
        manifest = self.read()
        output.parent.mkdir(parents=True, exist_ok=True)
        return manifest
