"""What every public Module keeps, whatever it is for."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import facemtl
from tests.cases import Case, all_cases, randomise, tensors, total

CASES = all_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=str)
SOURCES_OF_DATA = {"FaceRenderer"}
"""Modules for their buffers' sake, that make pictures of numbers and have nothing to train; see test_rendering."""


def build(case: Case) -> nn.Module:
    return randomise(case.make())


def inputs_of(case: Case, batch: int = 2) -> tuple:
    return case.inputs(torch.Generator().manual_seed(11), batch)


def to_dtype(inputs: tuple, dtype: torch.dtype) -> tuple:
    def convert(value: object) -> object:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        if isinstance(value, list | tuple):
            return type(value)(*map(convert, value)) if hasattr(value, "_fields") else type(value)(map(convert, value))
        return value

    return tuple(convert(value) for value in inputs)


def run(module: nn.Module, inputs: tuple) -> object:
    """Forward with a fixed seed, so that dropout and the like repeat."""
    torch.manual_seed(3)
    return module(*inputs)


def largest(value: Tensor) -> float:
    return float(value.detach().double().abs().max()) if value.numel() else 0.0


def assert_equal(got: object, want: object, **tolerance: float) -> None:
    got_tensors, want_tensors = list(tensors(got)), list(tensors(want))
    assert len(got_tensors) == len(want_tensors) > 0
    for left, right in zip(got_tensors, want_tensors, strict=True):
        torch.testing.assert_close(left, right, **tolerance)


def test_every_public_module_has_a_case() -> None:
    modules = {
        name
        for name in facemtl.__all__
        if inspect.isclass(getattr(facemtl, name)) and issubclass(getattr(facemtl, name), nn.Module)
    }
    covered = {type(case.make()).__name__ for case in CASES}
    assert not modules - covered - SOURCES_OF_DATA, "add a Case for each of these in tests/contract/cases_<block>.py"


def test_case_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_forward_and_backward_are_finite(case: Case, training: bool) -> None:
    module = build(case).train(training)
    inputs = inputs_of(case)
    output = run(module, inputs)
    assert all(value.isfinite().all() for value in tensors(output))
    scalar = total(output)
    if not scalar.requires_grad:
        assert not list(module.parameters())
        return
    scalar.backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name


@every_case
def test_each_parameter_gets_a_gradient(case: Case) -> None:
    if not case.gradients:
        pytest.skip("documented to train without backward")
    module = build(case).train()
    output = total(run(module, inputs_of(case, batch=4)))
    if list(module.parameters()):
        output.backward()
    silent = {name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert silent == set(case.unused)


@every_case
def test_state_dict_round_trip_is_exact(case: Case) -> None:
    module = build(case).eval()
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    other = case.make().eval()
    other.load_state_dict(torch.load(stream, weights_only=True), strict=True)
    inputs = inputs_of(case)
    assert_equal(run(other, inputs), run(module, inputs), rtol=0.0, atol=0.0)


@every_case
def test_deepcopy_and_pickle(case: Case) -> None:
    module = build(case).eval()
    inputs = inputs_of(case)
    want = run(module, inputs)
    assert_equal(run(copy.deepcopy(module), inputs), want, rtol=0.0, atol=0.0)
    if not any(hasattr(part, "parametrizations") for part in module.modules()):  # torch refuses to pickle those
        assert_equal(run(pickle.loads(pickle.dumps(module)), inputs), want, rtol=0.0, atol=0.0)


@every_case
def test_float64_refines_float32(case: Case) -> None:
    module = build(case).eval()
    inputs = inputs_of(case)
    single = run(module, inputs)
    double = run(copy.deepcopy(module).double(), to_dtype(inputs, torch.float64))
    for left, right in zip(tensors(single), tensors(double), strict=True):
        if left.is_floating_point():
            assert left.dtype == torch.float32
            atol = 1e-4 * max(largest(right), 1e-3)
            torch.testing.assert_close(left.double(), right.double(), rtol=0.0, atol=atol)


@every_case
def test_bf16_autocast_is_finite_and_close(case: Case) -> None:
    module = build(case).train()
    inputs = inputs_of(case, batch=8)  # two samples a batch norm would make plus and minus one
    want = run(copy.deepcopy(module), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(module, inputs)
    for left, right in zip(tensors(got), tensors(want), strict=True):
        assert left.isfinite().all()
        if left.is_floating_point():
            assert largest(left.float() - right) <= case.autocast_tolerance * max(largest(right), 1e-3)
    scalar = total(got)
    if scalar.requires_grad:
        scalar.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@every_case
def test_inputs_are_not_modified(case: Case) -> None:
    module = build(case).train()
    inputs = inputs_of(case)
    before = copy.deepcopy(inputs)
    run(module, inputs)
    if list(tensors(inputs)):
        assert_equal(inputs, before, rtol=0.0, atol=0.0)


@every_case
def test_construction_on_meta_device_and_in_float64(case: Case) -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in case.make().parameters())
    if not case.factory_kwargs:
        pytest.skip("owns no parameters")
    module = case.make(device="meta", dtype=torch.float64)
    assert list(module.parameters())
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        assert tensor.is_meta, name
        assert not tensor.is_floating_point() or tensor.dtype == torch.float64, name


@every_case
def test_channels_last_and_strided_inputs_give_the_same(case: Case) -> None:
    module = build(case).eval()
    inputs = inputs_of(case)
    want = run(module, inputs)

    def restride(value: object) -> object:
        if isinstance(value, Tensor):
            if value.dim() == 4:
                return value.to(memory_format=torch.channels_last)
            return value.repeat_interleave(2, dim=-1)[..., ::2] if value.dim() else value
        if isinstance(value, list | tuple):
            return (
                type(value)(*map(restride, value)) if hasattr(value, "_fields") else type(value)(map(restride, value))
            )
        return value

    got = run(module, tuple(restride(value) for value in inputs))
    for left, right in zip(tensors(got), tensors(want), strict=True):
        atol = 1e-4 * max(largest(right), 1e-3)
        torch.testing.assert_close(left, right, rtol=0.0, atol=atol)


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_batch_of_one(case: Case, training: bool) -> None:
    output = run(build(case).train(training), inputs_of(case, batch=1))
    assert all(value.isfinite().all() for value in tensors(output))


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_empty_batch(case: Case, training: bool) -> None:
    if not case.empty_batch:
        pytest.skip("documented to refuse an empty batch; tests/errors holds the message")
    module = build(case).train(training)
    output = run(module, inputs_of(case, batch=0))
    for value in tensors(output):
        assert value.numel() == 0 or (value.dim() == 0 and float(value.detach()) == 0.0)
    scalar = total(output)
    if scalar.requires_grad:
        scalar.backward()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        assert not tensor.is_floating_point() or tensor.isfinite().all(), name
        assert tensor.grad is None or tensor.grad.isfinite().all(), name


@pytest.mark.compiled
@every_case
def test_compiled_equals_eager(case: Case) -> None:
    torch.compiler.reset()
    module = build(case).train()
    inputs = inputs_of(case, batch=3)
    reference = copy.deepcopy(module)
    want = run(reference, inputs)
    compiled = torch.compile(module, fullgraph=True, backend=case.compiler)
    got = run(compiled, inputs)
    for left, right in zip(tensors(got), tensors(want), strict=True):
        atol = 1e-4 * max(largest(right), 1e-3)
        torch.testing.assert_close(left, right, rtol=0.0, atol=atol)
    if not list(module.parameters()):
        return
    total(want).backward()
    total(got).backward()
    # A bias before a norm has a gradient of rounding errors alone: it is held to the size of the others.
    whole = max((largest(right.grad) for right in reference.parameters() if right.grad is not None), default=0.0)
    for (name, left), right in zip(module.named_parameters(), reference.parameters(), strict=True):
        if right.grad is not None:
            assert left.grad is not None, name
            scale = max(largest(right.grad), 1e-2 * whole, 1e-3)
            torch.testing.assert_close(
                left.grad, right.grad, rtol=0.0, atol=1e-3 * scale, msg=lambda m, n=name: f"{n}: {m}"
            )
