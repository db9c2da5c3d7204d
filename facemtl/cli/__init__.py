"""The `facemtl` command: it parses, calls and says what came of it."""

from facemtl.cli.command import main

__all__ = ["main"]
