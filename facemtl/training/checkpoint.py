"""Checkpoints that survive kills, full disks and bit rot, and that any number of processes can resume."""

from __future__ import annotations

import operator
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from facemtl.training import checkpoint_files as files
from facemtl.training.checkpoint_agreement import on_each, on_first, rank_and_size
from facemtl.training.checkpoint_facts import Facts, check_facts, read_facts, write_facts
from facemtl.training.checkpoint_files import FACTS, Damaged, FileSum
from facemtl.training.checkpoint_files import CheckpointError as CheckpointError
from facemtl.training.checkpoint_files import CheckpointWarning as CheckpointWarning
from facemtl.training.state import TrainingState

_Own = TypeVar("_Own")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were all found to be what was written. :meth:`CheckpointFolder.newest` finds it."""

    step: int
    """Updates made when it was written."""
    path: Path
    """Its folder."""
    facts: dict[str, Any]
    """What :meth:`CheckpointFolder.save` was given, as JSON gives it back: tuples have become lists."""

    def restore(self, state: TrainingState) -> None:
        """Read modules and optimizers in place, bit for bit. All processes call this together.

        The number of processes need not be the one that wrote: what is sharded is cut anew. Optimizers get the state
        that the checkpoint has, whether they have stepped or not, and lose what it has not; their learning rates and
        other options stay as they are.

        Args:
            state: Of a run built with the settings of the checkpoint.

        Raises:
            CheckpointError: On all processes, if names, shapes or dtypes differ (then nothing was changed), or if the
                files have become unreadable (then ``state`` may be half read: build it anew).
        """
        # Here, as torch's module imports half a compiler: seconds, which `import facemtl` shall not take.
        from facemtl.training.checkpoint_tensors import read_metadata, read_tensors, saved_tensors

        where = f"Checkpoint.restore: {str(self.path)!r}"
        try:
            metadata = _each_its_own(lambda: read_metadata(self.path))
        except Damaged as damage:
            raise CheckpointError(f"{where} is damaged: {damage}. Look for another with newest().") from damage
        saved = saved_tensors(metadata)
        told = next(filter(None, on_each(lambda: state.difference(saved).text)), None)
        if told:
            raise CheckpointError(
                f"{where} must have the tensors of the state, got {told}. Build the model with the settings that the "
                "checkpoint was written with; nothing was changed."
            )
        places = _each_its_own(lambda: state.places(saved))
        try:
            read_tensors(self.path, metadata, places)
        except OSError as error:
            raise CheckpointError(f"{where}: {error}. The state may be half read: build it anew.") from error
        state.adopt(places)


class CheckpointFolder:
    """The checkpoints of one run, in a folder that all its processes see.

    A checkpoint is a folder ``step-00000120`` with torch.distributed.checkpoint's files, ``facts.json``, and
    ``sums.json`` with a SHA-256 for each. It grows under another name, and gets its own when all of it has reached the
    disk; a run that is killed at any moment leaves the one before as it was.

    Args:
        path: Of the folder, made when it is needed. One run at a time may write there.
        keep: How many to keep, at least 1.

    Raises:
        ValueError: If ``keep`` is less than 1.

    Note:
        ``.metadata`` in a checkpoint is a pickle of torch's. It is read here by an unpickler that gives it torch's
        plain records and nothing else; all the same, take checkpoints only from people whom you trust.

    Example:
        >>> import tempfile, torch
        >>> state = TrainingState(modules={"model": torch.nn.Linear(2, 1)})
        >>> folder = CheckpointFolder(tempfile.mkdtemp())
        >>> folder.save(120, state, {"phase": "recognition"}).name
        'step-00000120'
        >>> checkpoint = folder.newest()
        >>> checkpoint.step, checkpoint.facts
        (120, {'phase': 'recognition'})
        >>> checkpoint.restore(state)
    """

    def __init__(self, path: str | Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"CheckpointFolder: 'keep' must be at least 1, got {keep}.")
        self.path, self.keep = Path(path), keep

    def save(self, step: int, state: TrainingState, facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove those older than the last ``keep``. All processes call this together.

        What all processes have alike is taken from the first one; of DTensors each writes its shards. A checkpoint of
        the same step is replaced. After an error all that was there before is there still.

        Args:
            step: Updates made, from 0.
            state: What to write.
            facts: The rest: what JSON can hold, with texts for keys, of the first process. NaN and infinity may be in
                it, as Python's JSON knows them.

        Returns:
            Folder of the checkpoint.

        Raises:
            CheckpointError: On all processes, if one cannot write; says how many bytes are needed.
            TypeError: If ``facts`` hold something else than JSON.
            ValueError: If ``step`` is negative.
        """
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"CheckpointFolder.save: 'step' must be at least 0, got {step}.")
        final = self.path / files.folder_name(step)
        on_first(lambda: check_facts(facts))
        tensors = _each_its_own(state.tensors)
        try:
            self._write(step, tensors, facts, final)
        except OSError as error:
            raise CheckpointError(
                f"CheckpointFolder.save: {str(final)!r} could not be written: {error}. {self._room(tensors)}"
            ) from error
        if rank_and_size()[0] == 0:
            try:
                files.prune(self.path, step, keep=self.keep)
            except OSError as error:
                text = f"CheckpointFolder.save: an old checkpoint in {str(self.path)!r} cannot be removed: {error}."
                warnings.warn(text, CheckpointWarning, stacklevel=2)
        return final

    def newest(self) -> Checkpoint | None:
        """Newest checkpoint that is whole, the same on all processes, which call this together; None if there is none.

        The first process compares every file with its checksum, of the newest checkpoint first. A damaged one is
        passed over with a :class:`~facemtl.training.checkpoint_files.CheckpointWarning` of that process.

        Raises:
            CheckpointError: On all processes, if the folder cannot be read, or if a checkpoint holds, with checksums
                that fit, what no checkpoint needs.
        """
        try:
            found = on_first(self._search)
        except OSError as error:
            raise CheckpointError(f"CheckpointFolder.newest: {str(self.path)!r} cannot be read: {error}.") from error
        if rank_and_size()[0] == 0:
            for text in found.damaged:
                warnings.warn(text, CheckpointWarning, stacklevel=2)
        if found.facts is None:
            return None
        return Checkpoint(found.facts.step, self.path / found.name, found.facts.given)

    def _write(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], final: Path) -> None:
        from facemtl.training.checkpoint_tensors import write_tensors

        unfinished = self.path / on_first(lambda: files.begin(self.path, step).name)
        try:
            on_each(lambda: _check_shared(unfinished))
            write_tensors(unfinished, tensors)
            on_first(lambda: write_facts(unfinished, step, facts))
            sums = _sync_and_sum(unfinished)
            on_first(lambda: files.publish(unfinished, sums, final))
        except BaseException:
            if rank_and_size()[0] == 0:  # room for another try; where even this fails, the next save tries again
                shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _room(self, tensors: Mapping[str, Tensor]) -> str:
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        try:
            free = f"{shutil.disk_usage(self.path).free:,} bytes are free"
        except OSError:
            free = "how much is free is not known"
        return f"It needs {needed:,} bytes and {free}. Earlier checkpoints are as they were."

    def _search(self) -> _Found:
        damaged: list[str] = []
        for step, folder in files.step_folders(self.path):
            try:
                return _Found(folder.name, _verified(folder, step), damaged)
            except Damaged as damage:
                damaged.append(
                    f"CheckpointFolder.newest: {str(folder)!r} is damaged and was passed over: {damage}. "
                    "Training goes on from an older checkpoint, or from the start if there is none."
                )
        return _Found("", None, damaged)


class _Found(NamedTuple):
    """What a search for the newest checkpoint came to."""

    name: str
    facts: Facts | None
    damaged: list[str]


def _verified(folder: Path, step: int) -> Facts:
    from facemtl.training.checkpoint_tensors import read_metadata

    for name, expected in files.read_sums(folder).items():
        files.check_file(folder, name, expected)
    read_metadata(folder)
    facts = read_facts(folder)
    if facts.step != step:
        raise Damaged(f"{FACTS} says step {facts.step}")
    return facts


def _sync_and_sum(unfinished: Path) -> dict[str, FileSum]:
    """Bring all files to the disk and take their checksums, each process a share of them."""
    names = on_first(lambda: sorted(path.name for path in unfinished.iterdir()))
    rank, size = rank_and_size()

    def share() -> dict[str, FileSum]:
        mine = [unfinished / name for name in names[rank::size]]
        for path in mine:
            files.sync_file(path)
        return {path.name: files.sum_of(path) for path in mine}

    return {name: entry for part in on_each(share) for name, entry in part.items()}


def _each_its_own(action: Callable[[], _Own]) -> _Own:
    """What ``action`` gives on this process, or an error on all if it fails on one; nothing is sent but that."""
    results: list[_Own] = []
    on_each(lambda: results.append(action()))
    return results[0]


def _check_shared(unfinished: Path) -> None:
    if not unfinished.is_dir():
        raise FileNotFoundError(f"{str(unfinished)!r} is seen by the first process only; it must be on a shared disk")
