"""Weight decay against updates written by hand in float64, with and without a gradient scaler."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facemtl.layers.batch_norm import BatchNorm1d, BatchNorm2d
from facemtl.networks.mtlface import MTLFace
from facemtl.training.parameter_groups import weight_decay_groups

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.05
STEPS = 3


class Small(nn.Module):
    """One of each: with decay (weights, bias, PReLU) and without (norms)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.convolution = nn.Conv2d(2, 4, 3)
        self.norm = BatchNorm2d(4)
        self.activation = nn.PReLU(4)
        self.linear = nn.Linear(16, 3)
        self.final = nn.LayerNorm(3)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.final(self.linear(self.activation(self.norm(self.convolution(images))).flatten(1)))


def loss(network: nn.Module, step: int) -> Tensor:
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    kind = next(network.parameters()).dtype
    return network(images.to(kind)).square().mean()


def by_hand() -> dict[str, Tensor]:
    """SGD with momentum and decay on everything but the norms: ``v ← m·v + (g + d·w)``, ``w ← w − r·v``."""
    network = Small().double()
    speed = {name: torch.zeros_like(parameter) for name, parameter in network.named_parameters()}
    for step in range(STEPS):
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss(network, step), parameters)
        with torch.no_grad():
            for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                decay = 0.0 if name.startswith(("norm.", "final.")) else DECAY
                speed[name] = MOMENTUM * speed[name] + gradient + decay * parameter
                parameter -= RATE * speed[name]
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("scale", [None, 1.0, 65536.0])
def test_weight_decay_is_the_same_with_and_without_a_scaler(scale: float | None) -> None:
    network = Small()
    optimizer = torch.optim.SGD(weight_decay_groups(network, weight_decay=DECAY), lr=RATE, momentum=MOMENTUM)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss(network, step)).backward()
        scaler.step(optimizer)
        scaler.update()
    for name, expected in by_hand().items():
        torch.testing.assert_close(network.get_parameter(name).double(), expected, rtol=1e-5, atol=1e-6, msg=name)


def test_decay_added_to_scaled_gradients_would_show() -> None:
    """The released code's fault: this test's reference tells it apart."""
    network = Small()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    for step in range(STEPS):
        optimizer.zero_grad()
        (65536.0 * loss(network, step)).backward()
        for parameter in network.parameters():
            parameter.grad = (parameter.grad + DECAY * parameter.detach()) / 65536.0
        optimizer.step()
    expected = by_hand()["convolution.weight"]
    assert not torch.allclose(network.convolution.weight.double(), expected, rtol=1e-3)


def test_which_parameters_of_mtlface_decay() -> None:
    model = MTLFace.code2021(depth=18, width=8, embedding_dimension=32)
    decaying, others = weight_decay_groups(model)
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    norms = [part for part in model.modules() if isinstance(part, BatchNorm1d | BatchNorm2d | nn.BatchNorm2d)]
    assert norms
    expected = {id(parameter) for norm in norms for parameter in norm.parameters()}
    assert {id(parameter) for parameter in others["params"]} == expected
    together = decaying["params"] + others["params"]
    assert len({id(parameter) for parameter in together}) == len(together) == len(list(model.parameters()))
    for group in (decaying, others):
        places = [next(i for i, mine in enumerate(model.parameters()) if mine is given) for given in group["params"]]
        assert places == sorted(places), "in the model's order"


NORMS = [
    *(nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2), BatchNorm1d(2), BatchNorm2d(2)),
    *(nn.InstanceNorm1d(2, affine=True), nn.InstanceNorm2d(2, affine=True), nn.InstanceNorm3d(2, affine=True)),
    *(nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2)),
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: f"{type(norm).__module__}.{type(norm).__name__}")
def test_no_norm_decays(norm: nn.Module) -> None:
    (group,) = weight_decay_groups(nn.Sequential(norm))
    assert group["weight_decay"] == 0.0
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in norm.parameters()]


def test_shared_and_frozen_parameters() -> None:
    one, two, norm = nn.Linear(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)
    two.weight, two.bias = one.weight, norm.bias
    one.bias.requires_grad_(False)
    decaying, others = weight_decay_groups(one, nn.Sequential(two, norm), one, weight_decay=0.25)
    assert [id(parameter) for parameter in decaying["params"]] == [id(one.weight)]
    assert [id(parameter) for parameter in others["params"]] == [id(norm.bias), id(norm.weight)]
