from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.networks.aging_generator import AgingGenerator
from facemtl.networks.released.generator import GENERATOR_2021
from facemtl.networks.released.renaming import ReleasedWeightsError, load_released
from tests.parity import ParityCase


def test_generator_equals_the_released_one(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "icm_decoder_cvpr")
    generator = AgingGenerator.code2021().eval()
    load_released(generator, case.state(), GENERATOR_2021)
    levels = case.input("x2"), case.input("x3"), case.input("x4")
    groups = case.input("groups")
    with torch.no_grad():
        image = generator(case.input("x_id"), levels, case.input("img"), groups)
        case.check("image", image, tolerance=1e-5)
        many = generator.many(case.input("x_id"), levels, case.input("img"), groups.unsqueeze(1)).squeeze(1)
        case.check("image", many, tolerance=1e-5)


def test_everything_that_does_not_fit_is_listed(parity_folder: Path) -> None:
    state = ParityCase(parity_folder, "icm_decoder_cvpr").state()
    del state["up_2.conv.2.bias"]
    state["up_1.conv2.2.bias"] = torch.zeros(3)
    state["up_4.conv.0.weight"] = torch.zeros(60)
    state["conv4.weight"] = torch.zeros(1)
    generator = AgingGenerator.code2021()
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    with pytest.raises(ReleasedWeightsError) as caught:
        load_released(generator, state, GENERATOR_2021)
    assert "unknown: conv4.weight" in str(caught.value)
    del state["conv4.weight"]
    with pytest.raises(ReleasedWeightsError) as caught:
        load_released(generator, state, GENERATOR_2021)
    for problem in (
        "unknown: levels.0.residual.0.convolution.bias (renamed from a released key)",
        "missing: levels.1.joint.norm.running_mean (128,)",
        "misshapen: levels.3.features.norm.weight wanted (64,), got (60,)",
        "misshapen: levels.3.skip.norm.weight wanted (3,), got (0,)",
    ):
        assert problem in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_generator_passes_gradcheck() -> None:
    condition = OneHotCondition(2, num_groups=2, activation="prelu", dtype=torch.float64)
    generator = AgingGenerator(
        condition, channels=(2, 1, 1, 1), widths=(1, 1, 1, 1), activation="prelu", dtype=torch.float64
    ).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_(std=0.5)

    def randn(batch: int, channels: int, size: int) -> Tensor:
        return torch.randn(batch, channels, size, size, dtype=torch.float64).requires_grad_()

    groups = torch.tensor([[1, 0]])

    def many(identity_map: Tensor, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return generator.many(identity_map, (half, quarter, eighth), images, groups)

    images = randn(1, 3, 32).detach()
    inputs = (randn(1, 2, 2), randn(1, 1, 16), randn(1, 1, 8), randn(1, 1, 4))
    assert torch.autograd.gradcheck(many, inputs, fast_mode=True)
