"""Stored encodings against encoding anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError
from facemtl._core.pixels import to_model_input
from facemtl.data.datasets import FaceDataset
from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.samples import collate_faces
from facemtl.data.transforms import random_flip
from facemtl.networks.mtlface import EncodedFaces, MTLFace
from facemtl.training.encoding_store import EncodingStore
from facemtl.training.frozen import frozen_recogniser
from facemtl.training.steps import encode_sources
from tests.cases import randomise
from tests.labelled_faces import write_faces

SIDE, FACES = 32, 11
LIMIT = 10**8


@pytest.fixture(scope="module")
def model() -> MTLFace:
    return randomise(MTLFace.paper2021(depth=18, width=4, image_size=SIDE, embedding_dimension=16)).train()


@pytest.fixture
def dataset(tmp_path: Path) -> FaceDataset:
    return FaceDataset(write_faces(tmp_path, FACES, size=(SIDE, SIDE)), size=(SIDE, SIDE))


def tensors(faces: EncodedFaces) -> tuple[Tensor, ...]:
    return faces.identity, faces.age, *faces.levels


def images_of(dataset: FaceDataset | JoinedFaces, indices: Sequence[int]) -> Tensor:
    return collate_faces(dataset.__getitems__(indices)).images


def assert_as_encoded_anew(stored: EncodedFaces, anew: EncodedFaces) -> None:
    assert len(stored.levels) == 3
    for ours, theirs in zip(tensors(stored), (anew.identity, anew.age, *anew.levels[-3:]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert not ours.requires_grad
        assert ours.is_contiguous() == theirs.is_contiguous()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_encodings_are_those_of_the_faces_that_random_flip_gives(
    model: MTLFace, dataset: FaceDataset, batch_size: int
) -> None:
    store = EncodingStore(model, dataset, limit_bytes=LIMIT, batch_size=batch_size)
    assert len(store) == FACES
    indices = torch.tensor([10, 0, 3, 3, 7, 8, 9, 1])
    images = to_model_input(random_flip(images_of(dataset, indices.tolist()), generator=_generator()))
    flipped = torch.rand(len(indices), generator=_generator()) < 0.5
    assert flipped.unique().numel() == 2
    assert_as_encoded_anew(store.encodings(indices, flipped), encode_sources(model, images.contiguous()))
    turned = to_model_input(images_of(dataset, [6]).flip(-1)).contiguous()
    assert_as_encoded_anew(store.encodings(torch.tensor([6]), torch.tensor([True])), encode_sources(model, turned))


def test_the_generator_paints_from_them_what_it_paints_from_encodings_made_anew(
    model: MTLFace, dataset: FaceDataset
) -> None:
    store = EncodingStore(frozen_recogniser(model), dataset, limit_bytes=LIMIT, batch_size=4)
    images, groups = to_model_input(images_of(dataset, [2, 5])).contiguous(), torch.tensor([0, 6])
    sources = store.encodings(torch.tensor([2, 5]), torch.zeros(2, dtype=torch.bool))
    anew = encode_sources(model, images)
    painted = model.generator(sources.identity, sources.levels, images, groups)
    torch.testing.assert_close(painted, model.generator(anew.identity, anew.levels, images, groups))


def test_a_second_store_has_the_same_bits_wherever_faces_are_looked_up(model: MTLFace, dataset: FaceDataset) -> None:
    before = copy.deepcopy(model.state_dict())
    modes = [part.training for part in model.modules()]
    first, second = (EncodingStore(model, dataset, limit_bytes=LIMIT, batch_size=4) for _ in range(2))
    everything, flips = torch.arange(FACES), torch.arange(FACES) % 2 == 0
    whole = tensors(first.encodings(everything, flips))
    order = torch.randperm(FACES, generator=_generator())
    for ours, theirs in zip(whole, tensors(second.encodings(order, flips[order])), strict=True):
        assert torch.equal(ours[order], theirs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


class Watched(nn.Module):
    """An encoder that notes the sizes of its batches."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.sizes = encoder, list[int]()

    def forward(self, images: Tensor) -> object:
        self.sizes.append(len(images))
        return self.encoder(images)


@pytest.mark.parametrize(("batch_size", "batches"), [(4, 3), (11, 1), (64, 1), (10, 2)])
def test_all_batches_have_one_size(model: MTLFace, dataset: FaceDataset, batch_size: int, batches: int) -> None:
    watched = copy.copy(model)
    watched._modules = {**model._modules, "encoder": Watched(model.encoder)}
    EncodingStore(watched, dataset, limit_bytes=LIMIT, batch_size=batch_size)
    assert watched.encoder.sizes == [min(batch_size, FACES)] * 2 * batches


def test_a_stand_in_is_what_is_stored_for_a_broken_image(model: MTLFace, tmp_path: Path) -> None:
    manifest = write_faces(tmp_path, FACES, size=(SIDE, SIDE))
    (tmp_path / manifest.filenames[3]).write_bytes(b"")
    dataset = FaceDataset(manifest, size=(SIDE, SIDE), on_broken="skip")
    joined = JoinedFaces([FaceDataset(manifest, size=(SIDE, SIDE), on_broken="skip"), dataset])
    stand_in = dataset[3].index
    assert stand_in != 3
    store = EncodingStore(model, joined, limit_bytes=LIMIT, batch_size=5)
    pair = torch.tensor([FACES + 3, FACES + stand_in])
    for maps in tensors(store.encodings(pair, torch.tensor([True, True]))):
        torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-5)


def test_the_store_has_the_layout_and_dtype_of_the_encoder(model: MTLFace, dataset: FaceDataset) -> None:
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    indices, flipped = torch.tensor([4, 9]), torch.tensor([False, True])
    images = images_of(dataset, [4, 9])
    images[1] = images[1].flip(-1)
    images = to_model_input(images).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        store = EncodingStore(last, dataset, limit_bytes=LIMIT, batch_size=4)
        anew = encode_sources(last, images)
    stored = store.encodings(indices, flipped)
    for ours, theirs in zip(tensors(stored), (anew.identity, anew.age, *anew.levels[-3:]), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    assert not stored.levels[-1].is_contiguous()
    double = EncodingStore(copy.deepcopy(model).double(), dataset, limit_bytes=LIMIT).encodings(indices, flipped)
    assert double.identity.dtype == torch.float64


def test_what_does_not_fit_is_refused_with_its_size(model: MTLFace, dataset: FaceDataset) -> None:
    # Levels of 16, 8 and 4 pixels and the two halves of the final map of 2, all in float32.
    needed = 2 * FACES * 4 * (4 * 16**2 + 8 * 8**2 + 16 * 4**2 + 2 * 32 * 2**2)
    assert EncodingStore(model, dataset, limit_bytes=needed).bytes == needed
    with pytest.raises(ValueError, match=rf"at least {needed:,}, .* of 11 faces .*, got {needed - 1:,}\. Allow"):
        EncodingStore(model, dataset, limit_bytes=needed - 1)


def test_arguments_are_checked(model: MTLFace, dataset: FaceDataset) -> None:
    with pytest.raises(ValueError, match="'batch_size' must be at least 1, got 0"):
        EncodingStore(model, dataset, limit_bytes=LIMIT, batch_size=0)
    with pytest.raises(ValueError, match="'dataset' must hold at least one face, got none"):
        EncodingStore(model, torch.utils.data.Subset(dataset, []), limit_bytes=LIMIT)
    store = EncodingStore(model, dataset, limit_bytes=LIMIT)
    no, yes = torch.tensor([False]), torch.tensor([True, True])
    with pytest.raises(ValueError, match=r"'indices' must lie in \[0, len\(dataset\)\) = \[0, 11\); got 11 at index 0"):
        store.encodings(torch.tensor([11]), no)
    with pytest.raises(TypeError, match=r"'indices' must have dtype int64 or int32, got torch\.float32"):
        store.encodings(torch.tensor([1.0]), no)
    with pytest.raises(ShapeError, match=r"'indices' must have shape \(batch,\), got \(1, 1\)"):
        store.encodings(torch.tensor([[1]]), no)
    with pytest.raises(ShapeError, match=r"'flipped' must have shape \(batch,\) = \(1,\), got \(2,\)"):
        store.encodings(torch.tensor([1]), yes)
    with pytest.raises(TypeError, match=r"'flipped' must have dtype bool, got torch\.int64"):
        store.encodings(torch.tensor([1]), torch.tensor([1]))
    assert store.encodings(torch.tensor([], dtype=torch.long), no[:0]).identity.shape == (0, 32, 2, 2)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)
