"""`python -m facemtl` is the `facemtl` command."""

from __future__ import annotations

import sys

from facemtl.cli import main

if __name__ == "__main__":
    sys.exit(main())
