from __future__ import annotations

from pathlib import Path

from facemtl.layers.decomposition import AttentionFeatureDecomposition
from facemtl.networks.released.decomposition import DECOMPOSITION_2021, DECOMPOSITION_2022
from facemtl.networks.released.renaming import load_released
from tests.parity import ParityCase


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
