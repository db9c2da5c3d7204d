from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from facemtl.layers.batch_norm import BatchNorm2d
from facemtl.layers.bias_map import BiasMapConv2d
from facemtl.layers.folding import fold_before
from facemtl.layers.inference import fold_batch_norms, fold_chain
from facemtl.layers.ir_unit import IRUnit
from facemtl.networks.iresnet import IRResNet
from tests.cases import randomise


def test_bias_map_equals_loops_and_a_plain_bias_does_not() -> None:
    norm, layer = nn.BatchNorm2d(2), nn.Conv2d(2, 1, 3, padding=1)
    randomise(nn.Sequential(norm, layer).double()).eval()
    folded = fold_before(norm, layer)
    assert isinstance(folded, BiasMapConv2d)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    want = torch.zeros(4, 5, dtype=torch.float64)
    for row in range(4):
        for column in range(5):
            want[row, column] = layer.bias[0]
            for channel in range(2):
                for y in range(3):
                    for x in range(3):
                        if 0 <= row + y - 1 < 4 and 0 <= column + x - 1 < 5:
                            want[row, column] += layer.weight[0, channel, y, x] * shift[channel]
    got = folded(torch.zeros(1, 2, 4, 5, dtype=torch.float64))[0, 0]
    torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=1e-12)
    assert (got[0, 0] - got[1, 1]).abs() > 1e-3


def test_gradients_pass_through_a_folded_unit_to_its_input() -> None:
    unit = randomise(IRUnit(2, 3, stride=2).double()).eval()
    features = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    folded = unit.for_inference()
    assert torch.autograd.gradcheck(folded, (features,))
    (got,) = torch.autograd.grad(folded(features).square().sum(), features)
    (want,) = torch.autograd.grad(unit(features).square().sum(), features)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


class Foreign(nn.Module):
    """Runs its sequence backwards: only its own code knows."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.unit = IRUnit(3, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.unit(self.parts[0](self.parts[1](features)))


def test_a_foreign_module_keeps_its_norms_and_folds_our_parts() -> None:
    network = randomise(Foreign().double()).eval()
    folded = fold_batch_norms(network)
    assert type(folded.parts[1]) is nn.BatchNorm2d
    assert type(folded.unit.norm1) is nn.Identity
    features = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(folded(features), network(features), rtol=1e-10, atol=1e-10)


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        return super().forward(input).relu()


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


@pytest.mark.parametrize(
    "parts",
    [
        lambda: [nn.Conv2d(3, 3, 1), NormAndActivation(3)],
        lambda: [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)],
        lambda: [hooked(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)],
        lambda: [nn.Conv2d(3, 3, 1), hooked(nn.BatchNorm2d(3))],
        lambda: [nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)],
        lambda: [nn.Linear(6, 6), nn.BatchNorm2d(3)],
        lambda: [nn.BatchNorm2d(3), nn.Flatten(2), nn.Linear(20, 2)],
    ],
    ids=[
        "norm-with-activation",
        "no-statistics",
        "hook",
        "hook-on-norm",
        "spectral-norm",
        "linear-on-rows",
        "flatten-2",
    ],
)
def test_what_only_looks_foldable_stays(parts) -> None:
    network = randomise(nn.Sequential(*parts()).double()).eval()
    size = (2, 3, 4, 6) if isinstance(network[0], nn.Linear) else (2, 3, 4, 5)
    features = torch.randn(size, dtype=torch.float64)
    folded = fold_batch_norms(network)
    assert [type(part) for part in folded] == [type(part) for part in network]
    torch.testing.assert_close(folded(features), network(features), rtol=1e-12, atol=1e-12)


def test_shared_layers_and_synchronised_norms_fold() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    network = nn.Sequential(shared, BatchNorm2d(3), nn.SiLU(), shared, nn.BatchNorm2d(3, affine=False)).double()
    network = nn.SyncBatchNorm.convert_sync_batchnorm(randomise(network)).eval()
    folded = fold_batch_norms(network)
    assert sum(isinstance(part, nn.Identity) for part in folded) == 2
    features = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(folded(features), network(features), rtol=1e-10, atol=1e-10)


def test_a_flattened_map_folds_into_the_linear_layer_behind_it() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(60, 4, bias=False), nn.BatchNorm1d(4)
    )
    randomise(network.double()).eval()
    folded = fold_chain(list(network))
    assert [type(part).__name__ for part in folded] == ["Identity", "Flatten", "Identity", "Linear", "Identity"]
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(nn.Sequential(*folded)(features), network(features), rtol=1e-10, atol=1e-10)


def test_folding_keeps_dtype_and_runs_in_bf16_channels_last() -> None:
    network = randomise(IRResNet(18, width=8, image_size=32, embedding_dimension=16)).eval()
    images = torch.randn(4, 3, 32, 32)
    folded = network.for_inference()
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float32}
    with torch.inference_mode():
        want = network(images).embedding
        torch.testing.assert_close(folded(images).embedding, want, rtol=0.0, atol=1e-4 * float(want.abs().max()))
        half = folded.to(torch.bfloat16, memory_format=torch.channels_last)
        got = half(images.to(torch.bfloat16, memory_format=torch.channels_last)).embedding
    assert got.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(got.float(), want).min() > 0.999


@pytest.mark.compiled
def test_a_folded_network_is_one_graph_for_all_sizes() -> None:
    torch.compiler.reset()
    backbone = randomise(IRResNet(18, width=2, image_size=32, embedding_dimension=4).double()).backbone.for_inference()
    compiled = torch.compile(copy.deepcopy(backbone), fullgraph=True, backend="eager", dynamic=True)
    program = torch.export.export(
        backbone,
        (torch.zeros(2, 3, 64, 48, dtype=torch.float64),),
        dynamic_shapes=({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},),
    ).module()
    for size in ((2, 64, 48), (3, 32, 80), (1, 96, 96)):
        images = torch.randn(size[0], 3, *size[1:], dtype=torch.float64)
        want = backbone(images).map
        torch.testing.assert_close(compiled(images).map, want, rtol=1e-10, atol=1e-10)
        if size[0] > 1:  # AUTO may specialise on a batch of one only
            torch.testing.assert_close(program(images).map, want, rtol=1e-10, atol=1e-10)


def test_a_folded_copy_is_the_same_in_train_mode() -> None:
    network = randomise(nn.Sequential(IRUnit(3, 4, stride=2), nn.Dropout(), nn.Conv2d(4, 2, 1), BatchNorm2d(2))).eval()
    folded = fold_batch_norms(network)
    assert isinstance(folded[0], IRUnit)
    assert repr(folded[0].shortcut.norm) == "Identity()"
    features = torch.randn(2, 3, 6, 6)
    want = folded(features)
    assert torch.equal(folded.train()(features), want)
    assert fold_batch_norms(network[0])(features).shape == (2, 4, 3, 3)
