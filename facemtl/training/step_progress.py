"""How far a run of training is: a bar on a terminal, a line of text now and then where there is none."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

_SECONDS_BETWEEN_LINES = 10.0
_BAR = "{bar:6} {n_fmt}/{total_fmt}{postfix}"  # what else there is to say fills 100 columns


class StepProgress:
    """Show steps, losses, learning rate, speed and time left.

    A bar by tqdm where standard error is a terminal; elsewhere (a file, a batch system, a notebook) a line of text on
    standard output, at most one every ten seconds. The time left follows the speed of late, as the phases of a run are
    not equally fast.

    Args:
        total: Steps of the whole run.
        done: Steps done before, by a run that is resumed.
        shown: False shows nothing: for all processes but rank 0.

    Raises:
        ValueError: If ``done`` does not lie in [0, ``total``].
        ImportError: If there is a terminal and tqdm is missing.

    Example:
        >>> with StepProgress(1000, done=400) as progress:  # not on a terminal
        ...     metrics = {"recognition/identity": 12.34, "recognition/learning_rate": 0.1, "images_per_second": 1187.5}
        ...     progress.update(500, metrics)
        step 500 of 1,000, 1,188 images/s, recognition: identity 12.3, lr 0.1
    """

    def __init__(self, total: int, *, done: int = 0, shown: bool = True) -> None:
        if not 0 <= done <= total:
            raise ValueError(f"StepProgress: 'done' must lie in [0, total] = [0, {total}], got {done}.")
        self.total, self.done, self.shown = total, done, shown
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), done)], maxlen=60)
        self._line, self._printed_at = "", -math.inf
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise ImportError('StepProgress needs tqdm: pip install "facemtl[train]"') from error
            self._bar = tqdm(total=total, initial=done, bar_format=_BAR, dynamic_ncols=True)

    def update(self, step: int, text: Mapping[str, float]) -> None:
        """Say that ``step`` steps are done, and show ``text`` with it.

        Args:
            step: How many are done, in [0, total].
            text: What to show, by the names of the metrics: ``"recognition/identity"`` is shown as ``identity`` after
                ``recognition``, ``images_per_second`` goes to the front. For want of room, norms of gradients, scores,
                and totals of which the terms are there, are left out, and beside a bar the name of the only phase.
        """
        self.done = step
        self._recent.append((time.monotonic(), step))
        if not self.shown:
            return
        parts = [part for part in (self._time_left(), *_described(text, brief=self._bar is not None)) if part]
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(step - self._bar.n)
            return
        self._line = ", ".join([f"step {step:,} of {self.total:,}", *parts])
        if time.monotonic() - self._printed_at >= _SECONDS_BETWEEN_LINES:
            self._print_line()

    def say(self, message: str) -> None:
        """Print a line that stays, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        elif self.shown:
            print(message, flush=True)

    def close(self) -> None:
        """Leave the bar as it is, or print the last state if it was not yet; may be called again."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
        elif self._line:
            self._print_line()

    def __enter__(self) -> StepProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _print_line(self) -> None:
        print(self._line, flush=True)
        self._line, self._printed_at = "", time.monotonic()

    def _time_left(self) -> str:
        (start, first), (now, last) = self._recent[0], self._recent[-1]
        if last <= first or now - start < 1.0:
            return ""
        return f"{clock((self.total - last) * (now - start) / (last - first))} left"


def _described(text: Mapping[str, float], *, brief: bool) -> list[str]:
    """Speed, then the losses and learning rates of each phase."""
    speed, phases = "", dict[str, list[str]]()
    for name, value in text.items():
        phase, _, last = name.rpartition("/")
        terms = [other for other in text if other.startswith(f"{phase}/") and other != name]
        if last == "images_per_second":
            speed = f"{_short(value)} images/s"
        elif not (last.endswith(("gradient_norm", "score")) or (last == "total" and terms)):
            short = "lr" if last == "learning_rate" else last.replace("_", " ")
            phases.setdefault(phase, []).append(f"{short} {_short(value)}")
    unnamed = brief and len(phases) == 1
    losses = [
        f"{phase}: {', '.join(pairs)}" if phase and not unnamed else ", ".join(pairs) for phase, pairs in phases.items()
    ]
    return [speed, *losses]


def clock(seconds: float) -> str:
    """``4:05``, ``2:04:05``, ``3 d 4 h``: hours only where there are some."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(value: float) -> str:
    """Three digits, without an exponent where a reader would not want one."""
    value = float(value)
    size = abs(value)
    if not math.isfinite(value) or size == 0.0:
        return f"{value:g}"
    if size >= 99.95:
        return f"{value:,.0f}" if size < 1e9 else f"{value:.2e}"
    return f"{value:.3g}"
