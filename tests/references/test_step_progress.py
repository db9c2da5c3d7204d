from __future__ import annotations

import fcntl
import pty
import re
import select
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from facemtl.training import step_progress
from facemtl.training.step_progress import StepProgress

RECOGNITION = {
    "recognition/total": 12.9,
    "recognition/identity": 12.345,
    "recognition/age": 112.04,
    "recognition/adversary": 98.6,
    "recognition/gradient_norm": 3.2,
    "recognition/learning_rate": 0.1,
    "images_per_second": 1187.5,
}


class Clock:
    """A clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(step_progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_lines_without_a_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A step a second: the first line at once, one each ten seconds, the last one always."""
    with StepProgress(1000, done=900) as progress:
        for step in range(901, 1001):
            clock.now += 1.0
            progress.update(step, RECOGNITION)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert [int(re.match(r"step ([\d,]+) of", line)[1].replace(",", "")) for line in lines] == [
        *range(901, 1000, 10),
        1000,
    ]
    assert lines[5] == (
        "step 951 of 1,000, 0:49 left, 1,188 images/s, recognition: identity 12.3, age 112, adversary 98.6, lr 0.1"
    )


def test_an_interrupted_run_shows_its_last_state(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with StepProgress(100) as progress:
            progress.update(1, {})
            clock.now += 5.0
            progress.update(2, {"loss": 1.5})
            progress.say("a checkpoint was written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert capsys.readouterr().out.splitlines() == [
        "step 1 of 100",
        "a checkpoint was written",
        "step 2 of 100, 4:05 left, loss 1.5",
    ]


def test_time_left_follows_the_speed_of_late(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The first phase takes a second a step, the next a hundred."""
    progress = StepProgress(400)
    for step in range(1, 301):
        clock.now += 1.0 if step <= 200 else 100.0
        progress.update(step, {})
    assert capsys.readouterr().out.splitlines()[-1] == "step 300 of 400, 2:46:40 left"


@contextmanager
def terminal() -> Iterator[Callable[[], list[str]]]:
    """A real terminal of 100 columns as standard error; the function gives the lines that were shown on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with open(theirs, "w") as stderr, open(ours, "rb", buffering=0) as screen, redirect_stderr(stderr):

        def shown() -> list[str]:
            stderr.flush()
            written = b""
            while select.select([screen], [], [], 0.5)[0]:  # the kernel passes it on piece by piece
                written += screen.read(100_000)
            return [part.strip() for part in re.split(r"[\r\n]", written.decode()) if part.strip()]

        yield shown


def test_a_bar_on_a_terminal_fits(clock: Clock) -> None:
    with terminal() as shown:
        with StepProgress(36_000, done=12_000) as progress:
            clock.now += 20.0
            progress.update(12_050, RECOGNITION)
            progress.say("a checkpoint was written")
        lines = shown()
    assert "a checkpoint was written" in lines
    assert lines[-1].endswith(
        " 12050/36000, 2:39:40 left, 1,188 images/s, identity 12.3, age 112, adversary 98.6, lr 0.1"
    )
    assert len(lines[-1]) <= 100


def test_a_bar_of_two_phases_is_cut_at_the_edge(clock: Clock) -> None:
    names = ("discriminator", "adversarial", "identity", "age")
    with terminal() as shown:
        with StepProgress(36_000) as progress:
            clock.now += 20.0
            progress.update(50, RECOGNITION | {f"synthesis/{name}": 0.25 for name in names})
        last = shown()[-1]
    assert len(last) <= 100
    assert "images/s, recognition: identity 12.3, age 112" in last


def test_nothing_on_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress(10, shown=False) as progress:
        progress.update(10, {"loss": 1.0})
        progress.say("hello")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (1e-4, "0.0001"), (3.2e-7, "3.2e-07"), (99.94, "99.9"), (99.96, "100"), (12_345.6, "12,346"),
        (-0.12345, "-0.123"), (float("nan"), "nan"), (float("-inf"), "-inf"), (3.2e12, "3.20e+12"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress(1) as progress:
        progress.update(1, {"loss": value})
    assert capsys.readouterr().out == f"step 1 of 1, loss {shown}\n"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(59.4, "0:59"), (3599.6, "1:00:00"), (47 * 3600, "47:00:00"), (50 * 3600, "2 d 2 h")]
)
def test_times_are_short(seconds: float, shown: str, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress(2) as progress:
        clock.now += seconds
        progress.update(1, {})
    assert capsys.readouterr().out == f"step 1 of 2, {shown} left\n"
