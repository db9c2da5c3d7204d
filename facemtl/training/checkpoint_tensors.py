"""Tensors to and from a checkpoint's folder by torch.distributed.checkpoint, whose pickle is not trusted here."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from facemtl.training.checkpoint_files import METADATA, CheckpointError, Damaged, check_file, read_sums
from facemtl.training.state_difference import SavedTensor

_ALLOWED = {
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "_MEM_FORMAT_ENCODING",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
    },
}


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and ``.metadata``, each process its shards. What all processes have is written by the first.

    Raises:
        OSError: If a process cannot write, on all processes, with its rank and reason.
    """
    with _in_plain_words("write"):
        save(
            dict(tensors),
            # Fsynced by us: torch 2.6 calls fsync before it has flushed.
            storage_writer=_Writer(folder, sync_files=False),
            # DistributedDataParallel makes all processes have what the first one has: its buffers are the run's.
            planner=DefaultSavePlanner(flatten_state_dict=False, dedup_save_to_lowest_rank=True),
        )


def read_tensors(folder: Path, metadata: Metadata, places: Mapping[str, Tensor]) -> None:
    """Read tensors into ``places``, each process its shards.

    Raises:
        OSError: If a process cannot read, on all processes, with its rank and reason.
    """
    with _in_plain_words("read"):
        load(
            dict(places),
            storage_reader=_Reader(folder, metadata),
            planner=DefaultLoadPlanner(flatten_state_dict=False),
        )


def read_metadata(folder: Path) -> Metadata:
    """Read ``.metadata``, a pickle: its checksum is compared first, and it gets none but torch's plain records.

    Raises:
        Damaged: If it is not what was written, or needs files that have no checksum.
        CheckpointError: If it is what was written, but asks for anything that no checkpoint needs.
    """
    sums = read_sums(folder)
    check_file(folder, METADATA, sums[METADATA])
    metadata = _unpickle(folder / METADATA)
    strange = {str(info.relative_path) for info in metadata.storage_data.values()} - sums.keys()
    if strange:
        raise Damaged(f"{sorted(strange)[0]} has no checksum")
    return metadata


def saved_tensors(metadata: Metadata) -> dict[str, SavedTensor]:
    """Shapes and dtypes of all tensors in a checkpoint, by name."""
    return {
        name: SavedTensor(tuple(entry.size), entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }


class _Writer(FileSystemWriter):
    """Leaves the place of the checkpoint out of it: it may be moved."""

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()


class _Reader(FileSystemReader):
    """Takes metadata that were read with care, where torch's own would unpickle whatever is there."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for '{module}.{name}', which no checkpoint needs")


def _unpickle(path: Path) -> Metadata:
    try:
        metadata = _Unpickler(io.BytesIO(path.read_bytes())).load()
        sound = isinstance(metadata, Metadata) and all(
            isinstance(entry, TensorStorageMetadata) for entry in metadata.state_dict_metadata.values()
        )
        if not sound or not isinstance(metadata.storage_data, dict):
            raise pickle.UnpicklingError("it holds more than tensors")
    except MemoryError:
        raise
    except Exception as error:  # a forged pickle may call any of the allowed names with anything
        raise CheckpointError(
            f"CheckpointFolder: {str(path)!r} is not a checkpoint's: {error}. Its checksum fits, so it was written so: "
            f"by a later torch than {torch.__version__} (facts.json says by which), or by somebody; then do not trust "
            "this folder. Remove it, or use the torch that wrote it."
        ) from error
    return metadata


@contextmanager
def _in_plain_words(verb: str) -> Iterator[None]:
    """Make one line of what torch raises with all tracebacks of all ranks, and silence its words on itself."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"torch\.distributed is (disabled, )?unavailable or uninitialized")
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch 2.6 of its own doing
            yield
    except CheckpointException as error:
        problems = {rank: problem for rank, (problem, _) in error.failures.items()}
        for problem in problems.values():
            if not isinstance(problem, Exception):
                raise problem from error  # Ctrl-C, which torch catches too
        told = "; ".join(f"process {rank} could not {verb}: {problem!r}" for rank, problem in problems.items())
        raise OSError(told) from error
