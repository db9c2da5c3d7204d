"""Signals that ask to stop, from this process and from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facemtl.training.interruption import ignore_stop_signals, listen_for_stop


@pytest.fixture
def former() -> Iterator[list[int]]:
    """Handlers of our own that note what reaches them, so that a test cannot end the run of tests."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda n, _: heard.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_nothing_else(number: signal.Signals, former: list[int]) -> None:
    with listen_for_stop() as stop:
        assert (stop.requested, stop.name) == (False, None)
        signal.raise_signal(number)
        assert (stop.requested, stop.name) == (True, number.name)
    assert former == []
    signal.raise_signal(number)
    assert former == [number], "the former handler is back"


def test_a_second_interrupt_breaks_off(former: list[int]) -> None:
    with listen_for_stop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert former == [signal.SIGINT]


def test_a_scheduler_that_insists_does_not_break_off(former: list[int]) -> None:
    with listen_for_stop() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.name == "SIGTERM", "the first that came"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_return_after_an_exception(former: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), listen_for_stop():
        raise ZeroDivisionError
    signal.raise_signal(signal.SIGTERM)
    assert former == [signal.SIGTERM]


def test_ignored_signals_come_back_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with listen_for_stop() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_never_hears(former: list[int]) -> None:
    seen: list[bool] = []

    def work() -> None:
        with listen_for_stop() as stop:
            signal.raise_signal(signal.SIGTERM)
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    assert former == [signal.SIGTERM]


JOB = """
    import os, sys
    from torch.utils.data import DataLoader, Sampler
    from facemtl.training.interruption import ignore_stop_signals, listen_for_stop

    class Endless(Sampler):
        def __iter__(self):
            number = 0
            while True:
                yield number
                number += 1

    class Numbers:
        def __getitem__(self, number):
            return number

    if __name__ == "__main__":
        init = ignore_stop_signals if sys.argv[1] == "ignore" else None
        loader = DataLoader(Numbers(), sampler=Endless(), batch_size=2, num_workers=2, worker_init_fn=init)
        after = 0
        with listen_for_stop() as stop:
            for number, batch in enumerate(loader):
                if number == 5:
                    print("ready", flush=True)
                    sys.stdin.readline()  # here the signal comes
                after += stop.requested
                if after == 20:  # more than the workers had made ready before
                    break
        print("checkpoint after", stop.name, number)
"""


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("workers", ["ignore", "heed"])
def test_a_signal_to_the_whole_job_leaves_the_loaders_workers_alive(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text(textwrap.dedent(JOB))
    job = subprocess.Popen(
        [sys.executable, str(path), workers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        os.killpg(job.pid, signal.SIGTERM)
        output, errors = job.communicate("go on\n", timeout=60)
    finally:
        job.kill()
    if workers == "ignore":
        assert (job.returncode, output) == (0, "checkpoint after SIGTERM 24\n"), errors
    else:  # the fault that it prevents: the run dies before its checkpoint
        assert job.returncode != 0
        assert "checkpoint" not in output


def test_workers_ignore_both_signals(former: list[int]) -> None:
    ignore_stop_signals(3)
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.SIG_IGN
