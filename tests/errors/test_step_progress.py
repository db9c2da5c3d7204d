from __future__ import annotations

import io
import sys

import pytest

from facemtl.training.step_progress import StepProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_steps_done_are_checked() -> None:
    for done in (-1, 11):
        with pytest.raises(ValueError, match=rf"StepProgress: 'done' must lie in \[0, total\] = \[0, 10\], got {done}"):
            StepProgress(10, done=done)


def test_a_missing_bar_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    StepProgress(10).close()  # not needed where no terminal is
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ImportError, match=r'StepProgress needs tqdm: pip install "facemtl\[train\]"'):
        StepProgress(10)
