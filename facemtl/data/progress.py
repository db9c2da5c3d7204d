"""How far a long job is, for those who wait."""

from __future__ import annotations

from typing import Any


class Progress:
    """A bar on a terminal, and the count of faces or photographs done."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.done = done
        self._bar: Any = None
        if shown:
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise ImportError('progress needs tqdm: pip install "facemtl[cli]"') from error
            self._bar = tqdm(total=total, initial=done, unit="face", disable=None)  # None: off where no terminal is

    def add(self, count: int) -> None:
        """Count what is done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
