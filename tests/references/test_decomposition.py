from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facemtl.layers.attribute_decomposition import MultiAttributeDecomposition
from facemtl.layers.decomposition import AttentionFeatureDecomposition
from facemtl.networks.released.decomposition import DECOMPOSITION_2021, DECOMPOSITION_2022
from facemtl.networks.released.renaming import ReleasedWeightsError, load_released
from tests.cases import randomise
from tests.export import assert_exports
from tests.parity import ParityCase

DECOMPOSITIONS: dict[str, Callable[..., nn.Module]] = {
    "paper": AttentionFeatureDecomposition,
    "journal": AttentionFeatureDecomposition.journal2022,
    "several": lambda channels, **kw: MultiAttributeDecomposition(channels, attributes=("age", "pose", "smile"), **kw),
}


def maps(batch: int, channels: int, height: int, width: int) -> Tensor:
    shape = (batch, channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_parity_cvpr(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "afd_cvpr")
    module = AttentionFeatureDecomposition.code2021().eval()
    load_released(module, case.state(), DECOMPOSITION_2021)
    parts = module(case.input("x"))
    case.check("x_id", parts.identity, tolerance=1e-5)
    case.check("x_age", parts.age, tolerance=1e-5)


def test_parity_cvpr_in_train_mode_with_gradient(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "afd_cvpr_train")
    module = AttentionFeatureDecomposition().train()
    load_released(module, case.state(), DECOMPOSITION_2021)
    features = case.input("x").requires_grad_()
    parts = module(features)
    case.check("x_id", parts.identity)
    case.check("x_age", parts.age)
    (parts.identity.square().mean() + parts.age.pow(3).mean()).backward()
    assert features.grad is not None
    case.check("grad_x", features.grad)


def test_parity_journal(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "afd_pami")
    module = AttentionFeatureDecomposition.journal2022().eval()
    load_released(module, case.state(), DECOMPOSITION_2022)
    parts = module(case.input("x"))
    case.check("x_id", parts.identity, tolerance=1e-5)
    case.check("x_age", parts.age, tolerance=1e-5)


def test_released_keys_that_do_not_fit_are_listed() -> None:
    module = AttentionFeatureDecomposition(8)
    with pytest.raises(ReleasedWeightsError, match=r"unknown: fc.weight") as caught:
        load_released(
            module, {"fc.weight": torch.zeros(1), "channel.0.weight": torch.zeros(3, 2, 1, 1)}, DECOMPOSITION_2021
        )
    assert "missing: attention.spatial.conv.weight (1, 2, 7, 7)" in str(caught.value)


@torch.no_grad()
def test_shares_of_several_attributes_equal_the_loop() -> None:
    module = randomise(DECOMPOSITIONS["several"](3, dtype=torch.float64)).eval()
    features = maps(2, 3, 4, 5)
    parts = module(features)
    masks = {name: attention(features) for name, attention in module.attentions.items()}
    for place in ((b, c, y, x) for b in range(2) for c in range(3) for y in range(4) for x in range(5)):
        own = {name: float(mask[place]) for name, mask in masks.items()}
        claims = {name: m * math.prod(1.0 - own[other] for other in own if other != name) for name, m in own.items()}
        rest = math.prod(1.0 - m for m in own.values())
        whole = rest + sum(claims.values())
        assert math.isclose(parts.identity[place], features[place] * rest / whole, rel_tol=1e-10)
        for name, claim in claims.items():
            assert math.isclose(parts.attributes[name][place], features[place] * claim / whole, rel_tol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(DECOMPOSITIONS))
def test_gradcheck(name: str, training: bool) -> None:
    module = randomise(DECOMPOSITIONS[name](2, dtype=torch.float64)).train(training)
    features = maps(3, 2, 4, 3).requires_grad_()

    def parts(features: Tensor) -> tuple[Tensor, ...]:
        output = module(features)
        return (output[0], output[1]) if isinstance(output[1], Tensor) else (output[0], *output[1].values())

    assert torch.autograd.gradcheck(parts, (features,))


def test_batch_of_one_trains() -> None:
    module = AttentionFeatureDecomposition(16).train()
    before = module.attention.channel.norm.running_mean.clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    weights = [parameter.detach().clone() for parameter in module.parameters()]
    module(maps(1, 16, 7, 7).float()).age.square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(new, old) for new, old in zip(module.parameters(), weights, strict=True))
    assert torch.equal(module.attention.channel.norm.running_mean, before)


@pytest.mark.compiled
@pytest.mark.parametrize("name", list(DECOMPOSITIONS))
def test_export_and_onnx_with_a_dynamic_batch(name: str, tmp_path: Path) -> None:
    module = randomise(DECOMPOSITIONS[name](8)).eval()
    assert_exports(module, lambda batch: (torch.randn(batch, 8, 7, 7),), tmp_path)
