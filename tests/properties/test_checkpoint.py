from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.training.checkpoint import Checkpoint, CheckpointFolder, CheckpointWarning
from facemtl.training.state import TrainingState


class Tree(nn.Module):
    """Whatever modules, buffers and bare parameters, one inside another."""

    def __init__(self, plan: list[Any]) -> None:
        super().__init__()
        for index, entry in enumerate(plan):
            if isinstance(entry, list):
                self.add_module(f"tree{index}", Tree(entry))
                continue
            kind, size = entry
            dtype = (torch.float32, torch.float64, torch.bfloat16, torch.float16)[size % 4]
            if kind == "linear":
                self.add_module(f"linear{index}", nn.Linear(size + 1, 2, dtype=dtype))
            elif kind == "norm":
                self.add_module(f"norm{index}", nn.BatchNorm1d(size + 1))
            elif kind == "spectral":
                self.add_module(f"spectral{index}", nn.utils.parametrizations.spectral_norm(nn.Linear(size + 1, 2)))
            elif kind == "scalar":
                self.register_parameter(f"scalar{index}", nn.Parameter(torch.tensor(float(size), dtype=dtype)))
            elif kind == "strided":
                turned = torch.randn(size, 3).t() if size else torch.zeros(3, 0)
                self.register_parameter(f"strided{index}", nn.Parameter(turned))
            else:
                self.register_buffer(f"buffer{index}", torch.full((size,), size, dtype=torch.int64))


LEAVES = st.tuples(st.sampled_from(["linear", "norm", "spectral", "scalar", "strided", "buffer"]), st.integers(0, 5))
PLANS = st.recursive(st.lists(LEAVES, max_size=4), lambda inner: st.lists(inner | LEAVES, max_size=4), max_leaves=8)
OPTIMIZERS = ("SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad")
FACTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


def build(plan: list[Any], optimizer: str) -> TrainingState:
    tree = Tree(plan)
    parameters = list(tree.parameters()) or [nn.Parameter(torch.zeros(1))]
    if not list(tree.parameters()):
        tree.register_parameter("only", parameters[0])
    options: dict[str, Any] = {"momentum": 0.9} if optimizer in ("SGD", "RMSprop") else {}
    stepping = getattr(torch.optim, optimizer)(parameters, lr=0.01, **options)
    return TrainingState(modules={"tree": tree}, optimizers={"main": stepping})


def step(state: TrainingState, with_gradient: list[bool]) -> None:
    """Only some parameters get a gradient: the others have no state, or less of it."""
    parameters = state.modules["tree"].parameters()
    for parameter, wanted in zip(parameters, with_gradient * 100, strict=False):
        parameter.grad = torch.randn_like(parameter) if wanted else None
    state.optimizers["main"].step()


def copies(state: TrainingState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return got.keys() == wanted.keys() and all(
        torch.equal(got[name], wanted[name]) and got[name].dtype == wanted[name].dtype for name in wanted
    )


@given(
    PLANS,
    st.sampled_from(OPTIMIZERS),
    st.lists(st.lists(st.booleans(), min_size=1, max_size=3), max_size=3),
    st.integers(0, 2),
    FACTS,
    st.integers(0, 10**10),
)
def test_any_tree_and_any_facts_come_back(
    plan: list[Any], optimizer: str, steps: list[list[bool]], others: int, facts: dict[str, Any], number: int
) -> None:
    written, read = build(plan, optimizer), build(plan, optimizer)
    for choice in steps:
        step(written, choice)
    for _ in range(others):
        step(read, [True])
    wanted = copies(written)
    with tempfile.TemporaryDirectory() as place:
        CheckpointFolder(place).save(number, written, facts)
        found = CheckpointFolder(place).newest()
        assert found is not None
        found.restore(read)
        assert (found.step, found.facts) == (number, facts)
    assert same(read.tensors(), wanted)
    assert same(written.tensors(), wanted)  # writing changes nothing
    for state in (read, written):
        torch.manual_seed(1)
        step(state, [True, True, False])
    assert same(read.tensors(), written.tensors())


# --- damage ------------------------------------------------------------------------------------------------------

FILES = (".metadata", "__0_0.distcp", "facts.json", "sums.json")


def small(value: float) -> TrainingState:
    net = nn.Linear(4, 3)
    nn.init.constant_(net.weight, value)
    nn.init.constant_(net.bias, value)
    return TrainingState(modules={"net": net})


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pristine")
    for number in (1, 2):
        CheckpointFolder(place).save(number, small(number), {"value": number})
    return place


def outcome(place: Path) -> tuple[int, int]:
    """Step of the checkpoint chosen and how many were passed over; fails if any value of it is wrong."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = CheckpointFolder(place).newest()
    assert all(entry.category is CheckpointWarning for entry in caught)
    assert isinstance(found, Checkpoint)
    state = small(-1)
    found.restore(state)
    assert same(state.tensors(), small(found.step).tensors())
    assert found.facts == {"value": found.step}
    return found.step, len(caught)


def damage(place: Path, file: str, at: int, change: int, manner: str) -> bool:
    """Whether anything was changed."""
    path = place / "step-00000002" / file
    data = bytearray(path.read_bytes())
    before = bytes(data)
    at %= len(data)
    if manner == "flip":
        data[at] ^= change
    elif manner == "cut":
        del data[at:]
    elif manner == "insert":
        data.insert(at, change)
    elif manner == "zeros":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    else:
        os.unlink(path)
        return True
    path.write_bytes(data)
    return bytes(data) != before


@given(
    st.sampled_from(FILES),
    st.integers(0, 10**6),
    st.integers(1, 255),
    st.sampled_from(["flip", "flip", "cut", "insert", "zeros", "unlink"]),
)
@example("sums.json", 13, 1, "flip")  # .metadata becomes .letadata
@example("facts.json", 20, 3, "flip")  # format 1 becomes another
@example("sums.json", 0, 32, "insert")  # a space: no harm
def test_damage_falls_back_or_does_no_harm(pristine: Path, file: str, at: int, change: int, manner: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        shutil.copytree(pristine, place)
        changed = damage(place, file, at, change, manner)
        chosen = outcome(place)
    if not changed:
        assert chosen == (2, 0)
    elif file == "sums.json":  # white space in it may change
        assert chosen in [(2, 0), (1, 1)]
    else:
        assert chosen == (1, 1)


def test_no_byte_of_the_checksums_can_do_harm(pristine: Path, tmp_path: Path) -> None:
    """Each byte of ``sums.json`` once, as nothing vouches for that file."""
    shutil.copytree(pristine, tmp_path / "run")
    path = tmp_path / "run" / "step-00000002" / "sums.json"
    whole = path.read_bytes()
    harmless = []
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        path.write_bytes(data)
        if outcome(tmp_path / "run") == (2, 0):
            harmless.append(whole[at : at + 1])
    assert all(byte.isspace() for byte in harmless)
