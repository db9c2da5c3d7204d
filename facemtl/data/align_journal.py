"""What an alignment has done so far, on disk: a run that is killed at any moment continues from here."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from facemtl._core.whole_files import UNFINISHED, stage

_VERSION = 1
GONE = [-1, -1]
"""Stamp of a file that is not there."""

FOLDER = ".facemtl-align"
"""Folder of the destination that holds the journal and unfinished files."""


class Crop(NamedTuple):
    """A face as the manifest lists it."""

    name: str
    num_bytes: int
    landmarks: list[list[float]]
    matrix: list[list[float]]
    residual: float
    box: list[float] | None = None
    score: float | None = None
    label: str | None = None


class Outcome(NamedTuple):
    """What became of a photograph."""

    source: str
    stamp: list[int]
    """Size and time of change of the file that was read; tells that it has changed since."""

    stem: str
    """What its crops are called; tells that another photograph now contends for the name."""

    crops: list[Crop]
    refusal: list[str] | None = None
    """Reason and detail, where there is no crop."""


class AlignJournal:
    """The journal of a destination: a line for the settings, then one for each photograph.

    A photograph's line is on disk before its crops take their places, so every file of the job is in the journal; and
    crops are checked against it when a run continues.

    Args:
        destination: Folder of the crops.
        settings: What the crops depend on; must agree with those of the journal that is there.
        restart: Remove what an earlier journal lists and begin anew.

    Raises:
        ValueError: If the settings differ (says which), the folder holds files but no journal, or another process is
            at work in it.
        OSError: If the folder cannot be written.
    """

    def __init__(self, destination: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        self.destination, self.folder = destination, destination / FOLDER
        self._path = self.folder / "journal.jsonl"
        if destination.is_dir() and not self._path.exists() and any(name != FOLDER for name in os.listdir(destination)):
            raise ValueError(
                f"align_folder: 'destination' must be empty or made by facemtl align, got {str(destination)!r}. "
                "Choose another folder."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder / "lock", destination)
        try:
            self._sweep()
            self._settings = json.loads(json.dumps(settings))
            if restart:
                self._clear()
            self.outcomes: dict[str, Outcome] = {}
            self._superseded: set[str] = set()
            self._left_behind: set[str] = set()
            self._load()
            self._file: BinaryIO = open(self._path, "ab")  # noqa: SIM115 - open for the journal's life
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> AlignJournal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._sweep()
        self._lock.close()

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes, through a loss of power too."""
        outcomes = list(outcomes)
        self._file.write(b"".join(_line(outcome._asdict()) for outcome in outcomes))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._supersede(outcomes)

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End a job: these outcomes stand, one line each in their order, so that the same job ends in the same files.

        Crops that an outcome no longer lists are removed; those of photographs that are gone stay, unlisted. Returns
        how many of the latter there are.
        """
        standing = {crop.name for outcome in outcomes for crop in outcome.crops}
        self.remove(self._superseded - self._left_behind - standing)
        self._superseded.clear()
        sources = {outcome.source for outcome in outcomes}
        gone = [outcome for source, outcome in self.outcomes.items() if source not in sources]
        left_behind = self._left_behind.union(crop.name for outcome in gone for crop in outcome.crops)
        data = _line(self._header()) + b"".join(_line(outcome._asdict()) for outcome in outcomes)
        if self._path.read_bytes() != data:
            self._file.close()
            os.replace(stage(data, staging=self.folder, durable=True), self._path)
            self._file = open(self._path, "ab")  # noqa: SIM115 - open for the journal's life
        self.outcomes = {outcome.source: outcome for outcome in outcomes}
        return len(left_behind - standing)

    def holds(self, outcome: Outcome) -> bool:
        """Whether an outcome's crops are in their places, whole."""
        with contextlib.suppress(OSError):
            return all((self.destination / crop.name).stat().st_size == crop.num_bytes for crop in outcome.crops)
        return False

    def remove(self, names: Iterable[str]) -> None:
        """Remove crops that the journal listed."""
        for name in names:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                (self.destination / name).unlink()

    def _sweep(self) -> None:
        """Remove unfinished files, of a killed run or of a full disk."""
        for unfinished in self.folder.glob(f"*{UNFINISHED}"):
            with contextlib.suppress(OSError):
                unfinished.unlink()

    def _supersede(self, outcomes: Iterable[Outcome]) -> None:
        """Let later outcomes replace earlier ones of the same photograph, whose crops may have to go."""
        for outcome in outcomes:
            earlier = self.outcomes.get(outcome.source)
            if earlier is not None:
                # A file that is gone says nothing of its crops: it may be on a disk that is not mounted.
                crops = self._left_behind if outcome.stamp == GONE else self._superseded
                crops.update(crop.name for crop in earlier.crops)
            self.outcomes[outcome.source] = outcome

    def _header(self) -> dict[str, Any]:
        return {"facemtl align": _VERSION, "settings": self._settings}

    def _load(self) -> None:
        """Read the journal; a line that a killed process left unfinished is cut off."""
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            os.replace(stage(_line(self._header()), staging=self.folder, durable=True), self._path)
            return
        header, *lines = whole.splitlines()
        self._check_header(header)
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        self._supersede(outcome for outcome in map(_outcome, lines) if outcome is not None)

    def _check_header(self, line: bytes) -> None:
        try:
            header = json.loads(line)
            version, before = header["facemtl align"], header["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"align_folder: the journal {str(self._path)!r} is damaged. Choose another folder."
            ) from error
        if version != _VERSION:
            raise ValueError(
                f"align_folder: the journal {str(self._path)!r} is of version {version}, wanted {_VERSION}."
            )
        different = {
            name for name in before.keys() | self._settings.keys() if before.get(name) != self._settings.get(name)
        }
        if "size" in different:
            different.discard("template")  # its points follow the size
        differences = [
            f"{name} was {_shown(before.get(name))}, now {_shown(self._settings.get(name))}"
            for name in sorted(different)
        ]
        if differences:
            raise ValueError(
                f"align_folder: 'destination' {str(self.destination)!r} was made with other settings: "
                f"{'; '.join(differences)}. Choose another folder, or pass restart=True (--restart), which replaces "
                "its crops."
            )

    def _clear(self) -> None:
        """Remove all that an earlier journal lists, and the journal last."""
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines()[1:]
        outcomes = [outcome for outcome in map(_outcome, lines) if outcome is not None]
        self.remove(crop.name for outcome in outcomes for crop in outcome.crops)
        for folder in sorted({Path(crop.name).parent for outcome in outcomes for crop in outcome.crops}, reverse=True):
            with contextlib.suppress(OSError):
                os.removedirs(self.destination / folder)  # only those that are empty now
        self.remove(("manifest.csv", "rejected.csv"))
        self._path.unlink()


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _outcome(line: bytes) -> Outcome | None:
    """None for a damaged line: its photograph is done again. So is a forged one, whose crops must not be removed."""
    try:
        record = json.loads(line)
        outcome = Outcome(**{**record, "crops": [Crop(*crop) for crop in record["crops"]]})
        paths = [PurePath(crop.name) for crop in outcome.crops]
    except (ValueError, KeyError, TypeError):
        return None
    return None if any(path.is_absolute() or ".." in path.parts for path in paths) else outcome


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _lock(path: Path, destination: Path) -> BinaryIO:
    """Hold the folder for this process; the system lets go when the process ends, however it ends."""
    file = open(path, "ab")  # noqa: SIM115 - open while the lock is held
    try:
        import fcntl
    except ImportError:  # Windows has none: two runs in one folder are the user's to avoid
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(f"align_folder: another process is aligning into {str(destination)!r}.") from error
    return file
