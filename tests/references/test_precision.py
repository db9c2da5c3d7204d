"""Updates in fewer bits against float64 by hand, what an overflow does, and norms against the sum of squares."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facemtl.heads.margin import CosFace
from facemtl.heads.sharded import ShardedCosFace
from facemtl.training.parameter_groups import weight_decay_groups
from facemtl.training.precision import Precision, PrecisionName
from tests.gloo import run_gloo

CPU = torch.device("cpu")
RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.05
NAMES: tuple[PrecisionName, ...] = ("float32", "bfloat16", "float16")


def network() -> nn.Sequential:
    torch.manual_seed(8)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def sgd(layers: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(weight_decay_groups(layers, weight_decay=DECAY), lr=RATE, momentum=MOMENTUM)


def inputs(step: int) -> Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(step))


def by_hand(steps: int) -> dict[str, Tensor]:
    """``v ← m·v + (g + d·w)``, ``w ← w − r·v`` in float64; the norm does not decay."""
    layers = network().double()
    speed = {name: torch.zeros_like(parameter) for name, parameter in layers.named_parameters()}
    for step in range(steps):
        names, parameters = zip(*layers.named_parameters(), strict=True)
        loss = layers(inputs(step).double()).square().mean()
        with torch.no_grad():
            for name, parameter, gradient in zip(names, parameters, torch.autograd.grad(loss, parameters), strict=True):
                decay = 0.0 if name.startswith("1.") else DECAY
                speed[name] = MOMENTUM * speed[name] + gradient + decay * parameter
                parameter -= RATE * speed[name]
    return {name: parameter.detach() for name, parameter in layers.named_parameters()}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_updates_and_weight_decay_are_those_of_float64(name: PrecisionName, autocast: bool) -> None:
    """Without autocast to the digits of float32, the scaler included; with it to those of the short floats."""
    layers, precision = network(), Precision(name, CPU)
    optimizer = sgd(layers)
    for step in range(4):
        optimizer.zero_grad()
        with precision.autocast() if autocast else nullcontext():
            loss = layers(inputs(step)).float().square().mean()
        precision.backward(loss)
        precision.step(optimizer)
    assert precision.skipped == 0
    tolerance = {"bfloat16": 0.03, "float16": 0.004}.get(name, 1e-5) if autocast else 1e-5
    for parameter, wanted in by_hand(4).items():
        ours = layers.get_parameter(parameter).double()
        torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance / 10, msg=parameter)


def test_autocast_computes_in_what_it_says() -> None:
    for name, dtype in zip(NAMES, (torch.float32, torch.bfloat16, torch.float16), strict=True):
        precision = Precision(name, CPU)
        assert precision.name == name
        with precision.autocast():
            assert network()(inputs(0)).dtype == dtype
    assert Precision("auto", CPU).name == "float32"
    assert Precision("auto", torch.device("cuda")).name == "bfloat16"


@pytest.mark.parametrize("name", NAMES)
def test_the_norm_is_that_of_unscaled_gradients_and_leaves_them_alone(name: PrecisionName) -> None:
    layers, other, precision = network(), nn.Linear(6, 2), Precision(name, CPU)
    optimizers = sgd(layers), torch.optim.Adam(other.parameters())
    loss = layers(inputs(0)).square().mean() + other(inputs(1)).square().mean()
    parameters = [*layers.parameters(), *other.parameters()]
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    wanted = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
    precision.backward(loss)
    for _ in range(2):
        norm = precision.gradient_norm(*optimizers)
        assert (norm.dtype, norm.shape) == (torch.float32, ())
        assert math.isclose(norm.item(), wanted, rel_tol=1e-5)
    scale = 2.0**16 if name == "float16" else 1.0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, scale * gradient)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_no_norm(name: PrecisionName) -> None:
    assert Precision(name, CPU).gradient_norm(sgd(network())).item() == 0.0


def test_an_overflow_is_skipped_counted_and_no_fault_of_float16() -> None:
    layers, precision = network(), Precision("float16", CPU)
    optimizer = sgd(layers)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    precision.backward(layers(inputs(0)).mean() * 1e38)  # infinite once it is scaled
    assert precision.gradient_norm(optimizer).item() == 0.0
    precision.step(optimizer)
    assert precision.skipped == 1
    for name, value in layers.state_dict().items():
        assert torch.equal(value, before[name])
    optimizer.zero_grad()
    precision.backward(layers(inputs(0)).mean())
    assert precision.gradient_norm(optimizer).item() > 0.0
    precision.step(optimizer)
    assert precision.skipped == 1
    assert not torch.equal(layers[0].weight, before["0.weight"])


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_an_overflow_shows_without_a_scaler(name: PrecisionName) -> None:
    layers, precision = network(), Precision(name, CPU)
    precision.backward(layers(inputs(0)).mean() * math.inf)
    assert not math.isfinite(precision.gradient_norm(sgd(layers)).item())


def test_a_run_goes_on_with_its_scale() -> None:
    layers, precision = network(), Precision("float16", CPU)
    optimizer = sgd(layers)
    for factor in (1.0, math.inf, math.inf, 1.0):
        optimizer.zero_grad()
        precision.backward(layers(inputs(0)).mean() * factor)
        precision.step(optimizer)
    state = json.loads(json.dumps(precision.state_dict()))
    assert state["scaler"]["scale"] == 2.0**14
    for after_a_step in (False, True):
        other = Precision("float16", CPU)
        if after_a_step:
            other.backward(torch.ones((), requires_grad=True))
        other.load_state_dict(state)
        assert other.skipped == 2
        assert other.state_dict() == precision.state_dict()
    for name in ("float32", "bfloat16"):
        other = Precision(name, CPU)
        other.load_state_dict(state)
        assert (other.skipped, other.state_dict()["scaler"]) == (2, {})
    float32 = json.loads(json.dumps(Precision("float32", CPU).state_dict()))
    other = Precision("float16", CPU)
    other.load_state_dict(float32)
    assert other.state_dict()["scaler"]["scale"] == 2.0**16


PEOPLE, DIMENSION = 7, 4


def margin_loss(head: nn.Module, rows: slice) -> Any:
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(4, DIMENSION, generator=generator)[rows]
    return head(embeddings, torch.tensor([0, 6, 3, 3])[rows])


def norms_of_shares(rank: int, world_size: int, name: PrecisionName) -> dict[str, Any]:
    """Norm of whole layers and a split head together; then an update in which only one process's share overflows."""
    precision = Precision(name, CPU)
    head = ShardedCosFace(DIMENSION, PEOPLE, seed=3)
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE)
    layers = network()  # that all have whole, and alike
    precision.backward(margin_loss(head, slice(2 * rank, 2 * rank + 2)) + 1e3 * layers(inputs(0)).square().mean())
    norm = precision.gradient_norm(sgd(layers), optimizer).item()
    optimizer.zero_grad()
    precision.backward(margin_loss(head, slice(2 * rank, 2 * rank + 2)))
    weight: Any = head.weight
    before = weight.to_local().clone()
    if rank == 1 and name == "float16":
        weight.grad.to_local()[0, 0] = math.inf
    precision.step(optimizer)
    return {"norm": norm, "skipped": precision.skipped, "moved": not torch.equal(before, weight.to_local())}


@pytest.mark.dist
def test_the_norm_of_a_split_head_is_that_of_the_whole_and_one_overflow_stops_all(tmp_path: Path) -> None:
    whole = CosFace(DIMENSION, PEOPLE)
    whole.load_state_dict(ShardedCosFace(DIMENSION, PEOPLE, seed=3).state_dict())
    layers = network()
    (margin_loss(whole, slice(None)) + 1e3 * layers(inputs(0)).square().mean()).backward()
    gradients = [parameter.grad for parameter in (*whole.parameters(), *layers.parameters())]
    wanted = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None))
    for name, skipped in (("float32", 0), ("float16", 1)):
        results = run_gloo(norms_of_shares, 2, name, folder=tmp_path)
        assert [result["norm"] for result in results] == pytest.approx([wanted] * 2, rel=1e-5)
        assert [result["skipped"] for result in results] == [skipped] * 2
        assert [result["moved"] for result in results] == [not skipped] * 2
