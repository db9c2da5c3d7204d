from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facemtl._core import whole_files
from facemtl.data import align_batch, align_folder, align_journal
from facemtl.data.crop_names import crop_name, crop_stems
from facemtl.data.worker_pool import WorkerPool
from tests import pictures

_parts = st.sampled_from(
    ("a", "A", "b", "a_jpg", "a__face2", "a-1", "contact_sheet_1", "é", "x" * 240, "a.png", ".hidden", "a ")
)
_names = st.lists(
    st.tuples(st.lists(_parts, min_size=1, max_size=3), st.sampled_from((".jpg", ".png", ".JPG", ""))).map(
        lambda drawn: "/".join(drawn[0]) + drawn[1]
    ),
    unique=True,
    max_size=12,
)


@given(names=_names, suffix=st.sampled_from((".png", ".jpg")))
def test_crops_have_names_of_their_own(names: list[str], suffix: str) -> None:
    stems = crop_stems(names, suffix=suffix)
    crops = [crop_name(stem, face, suffix) for stem in stems for face in range(3)]
    assert len({crop.casefold() for crop in crops}) == len(crops)
    folders = {str(folder).casefold() for name in names for folder in PurePosixPath(name).parents}
    for stem, name in zip(stems, names, strict=True):
        assert PurePosixPath(stem).parent == PurePosixPath(name).parent
        crop = PurePosixPath(crop_name(stem, 99, suffix))
        assert len(os.fsencode(crop.name)) <= 255
        assert f"{stem}{suffix}".casefold() not in folders
        assert stem != "contact_sheet_1"


@given(names=_names, seed=st.randoms())
def test_names_depend_on_no_order(names: list[str], seed: Any) -> None:
    named = dict(zip(names, crop_stems(names), strict=True))
    seed.shuffle(names)
    assert dict(zip(names, crop_stems(names), strict=True)) == named


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield pictures.photographs(Path(name) / "photos", 7)


def _align(source: Path, destination: Path) -> None:
    align_folder.align_folder(source, destination, landmarks=source.parent / "landmarks.txt", workers=0, batch_size=2)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(source: Path) -> dict[str, bytes]:
    _align(source, source.parent / "whole")
    return _tree(source.parent / "whole")


@settings(max_examples=30)
@given(steps=st.lists(st.integers(0, 60), min_size=1, max_size=3))
def test_a_run_killed_at_any_step_continues_to_the_same_files(
    source: Path, whole: dict[str, bytes], steps: list[int]
) -> None:
    """Kill before and after each write, move and journal entry of the job, several times in a row."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        killed = Path(name) / "killed"
        left = [0]

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                for work in (lambda: None, lambda: call(*arguments, **options)):
                    if left[0] == 0:
                        raise Killed
                    left[0] -= 1
                    result = work()
                return result

            return wrapper

        patch.setattr(align_batch, "stage", dying(whole_files.stage))
        patch.setattr(align_journal, "stage", dying(whole_files.stage))
        patch.setattr(align_journal.os, "fsync", dying(os.fsync))
        patch.setattr(align_batch.os, "replace", dying(os.replace))
        patch.setattr(align_journal.AlignJournal, "append", dying(align_journal.AlignJournal.append))
        for step in steps:
            left[0] = step
            try:
                _align(source, killed)
            except Killed:
                for path in killed.rglob("*"):
                    assert path.parent.name == ".facemtl-align" or path.name != "manifest.csv"
            if killed.is_dir() and (killed / ".facemtl-align").is_dir():
                # What a killed process leaves and an exception does not: an unfinished file, half a line.
                (killed / ".facemtl-align" / "1-1.part").write_bytes(b"half")
                journal = killed / ".facemtl-align" / "journal.jsonl"
                if journal.exists() and not (killed / "manifest.csv").exists():
                    journal.write_bytes(journal.read_bytes() + b'{"source":"a/00')
        left[0] = -1
        _align(source, killed)
        assert _tree(killed) == whole


def _double(number: int) -> int:
    return 2 * number


def _prepare() -> Callable[[int], int]:
    return _double


@given(count=st.integers(0, 30))
def test_results_come_in_the_order_of_the_tasks(count: int) -> None:
    with WorkerPool(_prepare, failed=lambda task, fate: -1, num_workers=0) as pool:
        assert list(pool.results(range(count))) == [(number, 2 * number) for number in range(count)]


def test_results_come_in_order_from_several_processes() -> None:
    with WorkerPool(_prepare, failed=lambda task, fate: -1, num_workers=3) as pool:
        assert list(pool.results(range(200))) == [(number, 2 * number) for number in range(200)]
        workers = [worker.process for worker in pool._workers]
    assert not any(process.is_alive() for process in workers)
