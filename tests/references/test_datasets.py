"""Data sets held to Pillow and torchvision, to the careful reader, to worker processes, and to real photographs."""

from __future__ import annotations

import json
import logging
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from facemtl._core.pixels import to_model_input
from facemtl.data.balanced_sampler import BalancedSampler
from facemtl.data.broken_images import BrokenCount, BrokenImageError
from facemtl.data.datasets import FaceDataset
from facemtl.data.decoding import plain_jpeg
from facemtl.data.photographs import PhotographError, read_photograph
from facemtl.data.record_dataset import RecordDataset
from facemtl.data.samples import collate_faces
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.target_group_sampler import TargetGroupSampler
from facemtl.data.target_groups import TargetGroupCollator
from facemtl.data.transforms import random_flip
from tests import pictures
from tests.conftest import SHARED
from tests.labelled_faces import PlainManifest, manifest_of, pillow, write_faces

SIZE = (24, 20)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff", ".jpg"])
def test_pixels_and_labels_are_those_of_the_files(tmp_path: Path, suffix: str) -> None:
    manifest = write_faces(tmp_path, 7, suffix=suffix)
    dataset = FaceDataset(manifest, size=SIZE)
    batch = collate_faces(dataset.__getitems__([3, 0, 6, 3]))
    for row, index in enumerate([3, 0, 6, 3]):
        wanted = pillow(tmp_path / f"{index:04d}{suffix}")
        np.testing.assert_array_equal(batch.images[row].numpy(), wanted)
        single = dataset[index]
        np.testing.assert_array_equal(single.image.numpy(), wanted)
        assert single[1:] == (index // 3, float(index * 7 % 100), index % 2, index)
    assert batch.identities.tolist() == [1, 0, 2, 1]
    assert (batch.images.dtype, batch.ages.dtype, batch.genders.dtype) == (torch.uint8, torch.float32, torch.int64)
    assert dataset[-1].index == 6
    assert dataset.broken_count == BrokenCount(9, 0)


def save_jpegs(root: Path) -> list[str]:
    """JPEGs of all the kinds that a camera or a scraper leaves."""
    image = Image.fromarray(pictures.smooth(*SIZE, 5))
    exif = Image.Exif()
    exif[0x0112] = 3
    kinds = {
        "plain": (image, {"quality": 95}),
        "full": (image, {"quality": 95, "subsampling": 0}),
        "progressive": (image, {"progressive": True}),
        "gray": (image.convert("L"), {}),
        "cmyk": (image.convert("CMYK"), {}),
        "turned": (image, {"exif": exif}),
        "commented": (image, {"comment": b"Exif"}),
        "restarts": (image, {"restart_marker_blocks": 1}),
    }
    for name, (picture, options) in kinds.items():
        picture.save(root / f"{name}.jpg", **options)
    return [f"{name}.jpg" for name in kinds]


def test_every_kind_of_jpeg_is_as_the_careful_reader_has_it(tmp_path: Path) -> None:
    names = save_jpegs(tmp_path)
    plain = {name for name in names if plain_jpeg((tmp_path / name).read_bytes())}
    assert plain == {"plain.jpg", "full.jpg", "progressive.jpg", "gray.jpg", "commented.jpg", "restarts.jpg"}
    dataset = FaceDataset(manifest_of(tmp_path, names), size=SIZE)
    for index, name in enumerate(names):
        assert torch.equal(dataset[index].image, read_photograph(tmp_path / name)), name


def test_a_thousand_mutated_files_are_right_or_refused(tmp_path: Path) -> None:
    """No crash, no hang, no other pixels than the careful reader's, and labels are those of the face delivered."""
    (tmp_path / "whole").mkdir()
    whole = [(tmp_path / "whole" / name).read_bytes() for name in save_jpegs(tmp_path / "whole")]
    whole += [pictures.save(tmp_path / f"w{suffix}", 1, *SIZE).read_bytes() for suffix in pictures.SUFFIXES]
    draw, names = random.Random(20210301), []
    for index in range(1000):
        names.append(f"{index:04d}.jpg")
        (tmp_path / names[-1]).write_bytes(pictures.broken(draw.choice(whole), draw)[1])
    names.append("w.png")
    manifest = manifest_of(tmp_path, names)
    careful, lenient = (
        FaceDataset(manifest, size=SIZE),
        FaceDataset(manifest, size=SIZE, on_broken="skip", broken_limit=1.0),
    )
    refused = 0
    for index, name in enumerate(names):
        try:
            wanted = read_photograph(tmp_path / name)
        except PhotographError:
            wanted = None
        if wanted is not None and wanted.shape[1:] == SIZE:
            assert torch.equal(careful[index].image, wanted)
            assert lenient[index].index == index
            continue
        refused += 1
        with pytest.raises(BrokenImageError, match=f"face {index}, "):
            careful[index]
        try:
            sample = lenient[index]
        except BrokenImageError:  # ten stand-ins in a row, in a folder of which two in three are broken
            continue
        assert sample.index != index
        assert torch.equal(sample.image, read_photograph(tmp_path / names[sample.index]))
        assert (sample.identity, sample.age) == (sample.index // 3, manifest.ages[sample.index])
    assert 300 < refused < 900


def test_stand_ins_are_of_the_age_group_and_the_same_in_every_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_faces(tmp_path, 60)
    broken = [4, 17, 33]
    for index in broken:
        (tmp_path / f"{index:04d}.jpg").write_bytes(b"no image")
    report = tmp_path / "broken.jsonl"
    first = FaceDataset(manifest, size=SIZE, on_broken="skip", broken_limit=0.01, broken_report=report)
    delivered = [first[index].index for index in broken]
    assert [FaceDataset(manifest, size=SIZE, on_broken="skip")[index].index for index in broken] == delivered
    for index, stand_in in zip(broken, delivered, strict=True):
        assert stand_in not in broken
        groups = np.digitize(manifest.ages[[index, stand_in]], (10, 20, 30, 40, 50, 60), right=True)
        assert groups[0] == groups[1]
    with caplog.at_level(logging.WARNING, logger="facemtl.data"):
        caplog.clear()
        for _ in range(3):
            first.__getitems__(broken)
    assert not caplog.records  # each was logged once, at first
    assert first.broken_count == BrokenCount(12, 12)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["face"], line["reason"]) for line in lines] == [(index, "not an image") for index in broken]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_deliver_the_same_and_count_together(tmp_path: Path, context: str) -> None:
    manifest = write_faces(tmp_path, 40)
    (tmp_path / "0011.jpg").write_bytes(b"")
    dataset = FaceDataset(manifest, size=SIZE, on_broken="skip")
    sampler = ShuffledSampler(40, global_batch_size=8, seed=2)
    alone = list(islice(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_faces), 5))
    assert dataset.broken_count == BrokenCount(40, 1)
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate_faces, num_workers=2, multiprocessing_context=context
    )
    shared = list(islice(loader, 5))
    for here, there in zip(alone, shared, strict=True):
        for mine, theirs in zip(here, there, strict=True):
            assert torch.equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    count = dataset.broken_count  # workers may have prefetched more
    assert count.asked >= 80
    assert count.broken >= 2
    assert sum(11 in batch.indices for batch in shared) == 0
    assert Subset(dataset, [3, 4]).__getitems__([1])[0].index == 4


def test_transforms_and_resizing_are_torchvisions(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    manifest = write_faces(tmp_path, 3, suffix=".png", size=(40, 30))
    dataset = FaceDataset(manifest, size=SIZE, resize=True, transform=v2.RandomVerticalFlip(p=1.0))
    for index in range(3):
        source = torch.from_numpy(pillow(tmp_path / f"{index:04d}.png").copy())
        wanted = v2.functional.resize(source, list(SIZE), antialias=True).flip(1)
        assert torch.equal(dataset[index].image, wanted)
    assert torch.equal(collate_faces(dataset.__getitems__([0, 2])).images[1], dataset[2].image)


def test_without_simplejpeg_pillow_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from facemtl.data import decoding

    manifest = write_faces(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setattr(decoding, "_simplejpeg", decoding._simplejpeg.__wrapped__)
    dataset = FaceDataset(manifest, size=SIZE)
    np.testing.assert_array_equal(dataset[1].image.numpy(), pillow(tmp_path / "0001.jpg"))


def test_flips_are_torchvisions_image_by_image() -> None:
    from torchvision.transforms.v2 import functional

    images = torch.randint(0, 256, (64, 3, 5, 7), dtype=torch.uint8)
    draws = torch.rand(64, generator=torch.Generator().manual_seed(3)) < 0.5
    wanted = torch.stack(
        [functional.horizontal_flip(image) if flip else image for image, flip in zip(images, draws, strict=True)]
    )
    assert torch.equal(random_flip(images, generator=torch.Generator().manual_seed(3)), wanted)


@pytest.mark.compiled
def test_compiled_flips_are_the_same() -> None:
    images = torch.randint(0, 256, (8, 3, 5, 7), dtype=torch.uint8)
    compiled = torch.compile(lambda batch: random_flip(batch, probability=1.0), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images), images.flip(-1))


class Records:
    """Faces in one block of memory, as a memory map gives them."""

    def __init__(self, manifest: PlainManifest) -> None:
        self.identities, self.ages, self.genders = manifest.identities, manifest.ages, manifest.genders
        files = [(manifest.root / name).read_bytes() for name in manifest.filenames]
        self._ends, self._block = np.cumsum([0, *map(len, files)]), b"".join(files)

    def payload(self, index: int) -> memoryview:
        return memoryview(self._block)[self._ends[index] : self._ends[index + 1]]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_records_are_the_same_faces(tmp_path: Path, suffix: str) -> None:
    manifest = write_faces(tmp_path, 9, suffix=suffix)
    (tmp_path / f"0004{suffix}").write_bytes(b"<html>")
    options = {"size": SIZE, "on_broken": "skip", "broken_limit": 1.0}
    records = RecordDataset(Records(manifest), **options)
    files = FaceDataset(manifest, **options)
    for one, other in zip(records.__getitems__(range(9)), files.__getitems__(range(9)), strict=True):
        assert torch.equal(one.image, other.image)
        assert one[1:] == other[1:]
    with pytest.raises(BrokenImageError, match=r"RecordDataset: face 4, 'record 4': not an image \(it is HTML"):
        RecordDataset(Records(manifest), size=SIZE)[4]


@pytest.mark.skipif(not (SHARED / "faces" / "lfw").is_dir(), reason="the real photographs are not on this machine")
def test_real_photographs_load() -> None:
    root = SHARED / "faces" / "lfw"
    rows = [line.split() for line in (root / "labels.txt").read_text().splitlines() if line.strip()]
    names = [row[1] for row in rows]
    manifest = manifest_of(root, names)
    manifest.identities[:] = np.unique([row[0] for row in rows], return_inverse=True)[1].reshape(-1)
    manifest.ages[:] = [float(row[2]) for row in rows]
    manifest.genders[:] = [int(row[3]) for row in rows]
    assert len(names) == 2884
    assert manifest.identities.max() == 422
    dataset = FaceDataset(manifest, size=(250, 250))  # "raise": every single one is whole
    seen: list[int] = []
    for batch in islice(
        DataLoader(
            dataset,
            batch_sampler=ShuffledSampler(len(dataset), global_batch_size=103),
            collate_fn=collate_faces,
        ),
        28,
    ):
        seen += batch.indices.tolist()
        assert to_model_input(batch.images[:2]).abs().max() <= 1
    assert sorted(seen) == list(range(2884))
    for index in (0, 1000, 2883):
        difference = np.abs(dataset[index].image.numpy().astype(int) - pillow(root / names[index]))
        assert difference.max() <= 3  # two builds of libjpeg-turbo
        assert dataset[index].identity == manifest.identities[index]
    small = FaceDataset(manifest, resize=True)
    groups = [
        group for group in range(7) if (np.digitize(manifest.ages, (10, 20, 30, 40, 50, 60), True) == group).any()
    ]
    sampler = TargetGroupSampler(manifest.ages, groups=groups, global_batch_size=8)
    batch = next(iter(DataLoader(small, batch_sampler=sampler, collate_fn=TargetGroupCollator())))
    assert batch.sources.images.shape == batch.target_faces.images.shape == (8, 3, 112, 112)
    assert set(batch.target_groups.tolist()) <= set(groups)
    balanced = BalancedSampler(manifest.ages, manifest.genders, global_batch_size=28, on_empty="leave_out")
    assert len(small.__getitems__(balanced.batch(0))) == 28
