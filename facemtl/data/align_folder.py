"""A folder of photographs to a folder of aligned faces."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from facemtl._core.whole_files import write_if_changed
from facemtl.alignment.detection import FaceDetector
from facemtl.data.align_batch import Batch, BatchWriter
from facemtl.data.align_journal import AlignJournal
from facemtl.data.align_manifest import manifest_csv, rejected_csv
from facemtl.data.align_plan import PlannedPhotograph, done_before, plan_alignment
from facemtl.data.align_report import AlignmentInterrupted, AlignmentReport
from facemtl.data.align_settings import AlignSettings, describe_detector
from facemtl.data.devices import choose_device
from facemtl.data.examine import Examined, Examiner, PhotographTask, refused
from facemtl.data.landmark_lists import read_landmark_list
from facemtl.data.photograph_list import PhotographList, list_photographs
from facemtl.data.progress import Progress
from facemtl.data.worker_pool import WorkerPool

_BATCH_BYTES = 256 * 2**20  # of decoded pixels: a batch of large photographs has fewer of them
_TIMEOUT = 300.0  # seconds for a photograph, after which its process is ended


def align_folder(
    source: str | Path,
    destination: str | Path,
    *,
    detector: FaceDetector | None = None,
    landmarks: str | Path | None = None,
    root: str | Path | None = None,
    settings: AlignSettings | None = None,
    workers: int | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    restart: bool = False,
    progress: bool = False,
) -> AlignmentReport:
    """Align the faces of a folder of photographs into a folder of crops; what ``facemtl align`` does.

    Photographs are decoded and searched in worker processes and warped in batches. The destination gets the crops,
    subfolders kept, ``manifest.csv`` (source, crop, box, score, landmarks, matrix from photograph to crop, residual
    in the crop's pixels, and the labels of an input manifest) and ``rejected.csv`` (source, reason, detail): each
    photograph is in exactly one of them. A file appears whole or not at all. A run that was interrupted or killed is
    continued by the same call and ends in the same files; a finished one is brought up to date, where a photograph
    was added or has changed.

    Worker processes import the caller's main module, as multiprocessing does: a script calls this under
    ``if __name__ == "__main__":``, or with ``workers=0``.

    Args:
        source: A folder, read with its subfolders (files whose names end like an image's), or a manifest
            (:func:`~facemtl.data.photograph_list.list_photographs` says which forms).
        destination: Folder for the crops: new, empty, or made by this function with the same settings. It may lie
            inside the source, which is then not searched there.
        detector: Finds the faces; by default a :class:`~facemtl.alignment.mtcnn.MTCNNDetector`. It must survive
            pickling, unless it has a ``device`` that is no CPU: then it runs in this process.
        landmarks: A landmark list (:func:`~facemtl.data.landmark_lists.read_landmark_list` says which forms) that
            replaces detection; its names are relative to the source folder or to ``root``.
        root: Folder that the names in a manifest are relative to; by default the manifest's own.
        settings: Template, size, format and which faces count.
        workers: Processes that read photographs; by default one for each core. 0 reads in this process, where a
            file that kills its decoder ends the job.
        batch_size: Photographs warped together; fewer if they are large.
        device: Where to warp; ``"auto"`` is CUDA, else MPS, else the CPU.
        restart: Remove the crops of an earlier run, whose settings may differ, and begin anew.
        progress: Show a bar on the terminal (needs tqdm).

    Returns:
        :class:`~facemtl.data.align_report.AlignmentReport`.

    Raises:
        ValueError: If there is no photograph, a list is wrong (says the line), the destination is not ours to
            write or has other settings (says which), or an argument is out of range.
        ImportError: If a package for detection or progress is missing.
        OSError: If the destination cannot be written: disk full, say. What was done is kept.
        AlignmentInterrupted: On Ctrl-C.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "photos").mkdir()
        >>> Image.new("RGB", (178, 218), "tan").save(folder / "photos" / "000001.jpg")
        >>> Image.new("RGB", (178, 218), "tan").save(folder / "photos" / "000002.jpg")
        >>> _ = (folder / "landmarks.txt").write_text("000001.jpg 69 109 106 113 77 142 73 152 108 154")
        >>> report = align_folder(folder / "photos", folder / "crops", landmarks=folder / "landmarks.txt", workers=0)
        >>> report.crops, report.reasons
        (1, {'no landmarks in the list': 1})
    """
    settings = settings if settings is not None else AlignSettings()
    source, destination = Path(source), Path(destination)
    _check_arguments(workers, batch_size)
    _check_places(source, destination)
    found = list_photographs(source, root=root, leave_out=destination)
    listed = read_landmark_list(landmarks) if landmarks is not None else None
    plan = plan_alignment(found, suffix=settings.suffix, listed=listed, complete=source.is_dir())
    if landmarks is not None:
        detector, faces_from = None, {"landmarks": _describe_list(Path(landmarks))}
    else:
        detector = detector if detector is not None else _default_detector()
        faces_from = {"detector": describe_detector(detector)}
    record = {**settings.record(), **faces_from, "source": os.fspath(found.root.resolve())}
    with AlignJournal(destination, record, restart=restart) as journal:
        waiting = [planned for planned in plan if not done_before(planned, journal)]
        ours = detector if _runs_here(detector) else None
        examiner = Examiner(settings, detector if ours is None else None)
        writer = BatchWriter(journal, settings, choose_device(device), detector=ours)
        num_workers = min(len(waiting), workers if workers is not None else _cores())
        with Progress(len(plan), len(plan) - len(waiting), progress) as bar:
            try:
                _work(waiting, examiner, writer, num_workers=num_workers, batch_size=batch_size, bar=bar)
            except KeyboardInterrupt as interruption:
                raise AlignmentInterrupted(bar.done, len(plan)) from interruption
        return _finish(journal, plan, found, new=len(waiting))


def _check_arguments(workers: int | None, batch_size: int) -> None:
    if workers is not None and workers < 0:
        raise ValueError(f"align_folder: 'workers' must be at least 0, got {workers}.")
    if batch_size < 1:
        raise ValueError(f"align_folder: 'batch_size' must be at least 1, got {batch_size}.")


def _check_places(source: Path, destination: Path) -> None:
    """Crops must not be written among photographs: one of them could be called like a photograph."""
    if destination.exists() and not destination.is_dir():
        raise ValueError(f"align_folder: 'destination' must be a folder, got the file {str(destination)!r}.")
    folder = source if source.is_dir() else source.parent
    if source.is_dir() and folder.resolve().is_relative_to(destination.resolve()):
        raise ValueError(
            f"align_folder: 'destination' must not be or hold the source {str(source)!r}, got {str(destination)!r}. "
            "Choose a folder beside it or below it."
        )


def _runs_here(detector: FaceDetector | None) -> bool:
    """Whether a detector sits on a GPU, which worker processes do not share."""
    device = getattr(detector, "device", None)
    return device is not None and torch.device(device).type != "cpu"


def _cores() -> int:
    """Cores that this process may use, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_detector() -> FaceDetector:
    from facemtl.alignment.mtcnn import MTCNNDetector

    return MTCNNDetector()


def _describe_list(path: Path) -> str:
    """Name and content of a landmark list, for the journal: crops of another list must not be mixed with these."""
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def _work(
    waiting: list[PlannedPhotograph],
    examiner: Examiner,
    writer: BatchWriter,
    *,
    num_workers: int,
    batch_size: int,
    bar: Progress,
) -> None:
    """Examine in worker processes; warp and write one batch in a thread while the next is examined."""
    pool: WorkerPool[PhotographTask, Examined] = WorkerPool(
        examiner, failed=lambda _, fate: refused("crashed its process", fate), num_workers=num_workers, timeout=_TIMEOUT
    )

    def write(batch: Batch) -> None:
        writer.write(batch)
        bar.add(len(batch))

    pending: Future[None] | None = None
    with pool, ThreadPoolExecutor(1) as thread:
        for batch in _batches(_examined(waiting, pool), batch_size):
            if pending is not None:
                pending.result()
            pending = thread.submit(write, batch)
        if pending is not None:
            pending.result()


def _examined(
    waiting: list[PlannedPhotograph], pool: WorkerPool[PhotographTask, Examined]
) -> Iterator[tuple[PlannedPhotograph, Examined]]:
    """Photographs in order; those that are refused already are not opened."""
    tasks = (
        PhotographTask(number, os.fspath(planned.path), planned.listed)
        for number, planned in enumerate(waiting)
        if planned.photograph.refusal is None
    )
    position = 0
    for task, examined in pool.results(tasks):
        yield from _already_refused(waiting[position : task.number])
        yield waiting[task.number], examined
        position = task.number + 1
    yield from _already_refused(waiting[position:])


def _already_refused(photographs: Iterable[PlannedPhotograph]) -> Iterator[tuple[PlannedPhotograph, Examined]]:
    for planned in photographs:
        if planned.photograph.refusal is not None:
            yield planned, refused(*planned.photograph.refusal)


def _batches(
    examined: Iterable[tuple[PlannedPhotograph, Examined]], batch_size: int
) -> Iterator[list[tuple[PlannedPhotograph, Examined]]]:
    batch: list[tuple[PlannedPhotograph, Examined]] = []
    num_bytes = 0
    for planned, result in examined:
        batch.append((planned, result))
        num_bytes += result.pixels.nbytes if result.pixels is not None else 0
        if len(batch) == batch_size or num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _finish(
    journal: AlignJournal, plan: list[PlannedPhotograph], found: PhotographList, *, new: int
) -> AlignmentReport:
    outcomes = [journal.outcomes[planned.photograph.name] for planned in plan]
    left_behind = journal.settle(outcomes)
    labels: Mapping[str, Mapping[str, str]] = {
        planned.photograph.name: planned.photograph.labels for planned in plan if planned.photograph.labels
    }
    manifest, rejections = journal.destination / "manifest.csv", journal.destination / "rejected.csv"
    for path, data in (
        (rejections, rejected_csv(outcomes, labels, found.label_columns)),
        (manifest, manifest_csv(outcomes, labels, found.label_columns)),
    ):
        write_if_changed(path, data, staging=journal.folder)
    refusals = [outcome.refusal[0] for outcome in outcomes if outcome.refusal is not None]
    crops = sum(len(outcome.crops) for outcome in outcomes)
    return AlignmentReport(
        len(plan),
        crops,
        len(refusals),
        dict(Counter(refusals).most_common()),
        new,
        found.passed_over,
        left_behind,
        manifest,
        rejections,
    )
