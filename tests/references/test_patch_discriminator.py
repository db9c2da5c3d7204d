from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.networks.patch_discriminator import PatchDiscriminator
from facemtl.networks.released.discriminator import DISCRIMINATOR_2021, leading_singular_vectors
from facemtl.networks.released.renaming import load_released
from tests.parity import ParityCase


def vectors(discriminator: PatchDiscriminator) -> list[Tensor]:
    """The right singular vectors of the convolutions with spectral norm: scaling one scales its sigma."""
    return [value for name, value in discriminator.named_buffers() if name.endswith("._v")]


def test_discriminator_equals_the_released_one(parity_folder: Path) -> None:
    """Its norms were converged by 300 iterations from a random start, which leaves them a little too small.

    The two largest singular values of these random weights differ by 0.2 %, so that the reference holds sigmas short by
    up to 3e-4 and logits that differ by as much from those of the exact norms. Four factors on the sigmas explain all
    50 logits; power iteration underestimates, so all of them are at most 1.
    """
    case = ParityCase(parity_folder, "discriminator_cvpr")
    discriminator = PatchDiscriminator.code2021()
    load_released(discriminator, case.state(), DISCRIMINATOR_2021)
    discriminator.double().eval()
    exact = [value.clone() for value in vectors(discriminator)]

    def logits(log_factors: Tensor) -> Tensor:
        with torch.no_grad():
            for value, own, log_factor in zip(vectors(discriminator), exact, log_factors, strict=True):
                value.copy_(own * log_factor.exp())
            return discriminator(case.input("x").double(), case.input("groups"))

    log_factors = torch.zeros(4, dtype=torch.float64)
    found = logits(log_factors)
    case.check("logits", found, tolerance=1e-3)
    want = torch.from_numpy(np.load(parity_folder / "reference.npz")["discriminator_cvpr/logits"]).double()
    slopes = [(logits(1e-4 * unit) - found).flatten() / 1e-4 for unit in torch.eye(4, dtype=torch.float64)]
    misses = (want.flatten() - found.flatten()).unsqueeze(1)
    log_factors = torch.linalg.lstsq(torch.stack(slopes, dim=1), misses).solution.squeeze(1)
    assert (log_factors < 1e-6).all()
    assert (log_factors > -1e-3).all()
    case.check("logits", logits(log_factors), tolerance=2e-6)


def test_stored_singular_vectors_are_kept(parity_folder: Path) -> None:
    state = ParityCase(parity_folder, "discriminator_cvpr").state()
    state["main.4.weight_u"], state["main.4.weight_v"] = torch.rand(512), torch.rand(256 * 16)
    discriminator = PatchDiscriminator.code2021()
    load_released(discriminator, state, DISCRIMINATOR_2021)
    norm = discriminator.convolutions[3].parametrizations.weight[0]
    assert torch.equal(norm._u, state["main.4.weight_u"])
    assert torch.equal(norm._v, state["main.4.weight_v"])


@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (12, 4)])
def test_leading_singular_vectors_are_those_of_the_svd(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    left, right = leading_singular_vectors(weight)
    matrix = weight.flatten(1)
    torch.testing.assert_close(left @ matrix @ right, torch.linalg.svdvals(matrix)[0])
    torch.testing.assert_close(matrix @ right, (left @ matrix @ right) * left)
    assert float(left.norm()) == pytest.approx(1.0)
    assert float(right.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("code", [False, True], ids=["paper2021", "code2021"])
def test_discriminator_equals_plain_convolutions_of_normalised_weights(code: bool) -> None:
    preset = PatchDiscriminator.code2021 if code else PatchDiscriminator
    discriminator = preset(3, width=2, dtype=torch.float64).eval()
    images, groups = torch.randn(2, 3, 48, 64, dtype=torch.float64), torch.tensor([2, 0])
    hidden = images
    for index, part in enumerate(discriminator.convolutions):
        weight = part.weight
        if isinstance(getattr(part, "parametrizations", None), nn.ModuleDict):
            norm = part.parametrizations.weight
            matrix = norm.original.flatten(1)
            weight = norm.original / (norm[0]._u @ matrix @ norm[0]._v)
        if index == 1:
            maps = torch.zeros(2, 3, *hidden.shape[2:], dtype=torch.float64)
            maps[0, 2], maps[1, 0] = 1.0, 1.0
            hidden = torch.cat([hidden, maps], dim=1)
        hidden = F.conv2d(hidden, weight, part.bias, stride=2 if index < 4 else 1, padding=1)
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden) if index < 5 else hidden
    torch.testing.assert_close(discriminator(images, groups), hidden, rtol=0.0, atol=1e-12)


def test_discriminator_passes_gradcheck() -> None:
    discriminator = PatchDiscriminator(2, width=1, dtype=torch.float64).eval()
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: discriminator(images, torch.tensor([1])), images, fast_mode=True)
    part = discriminator.convolutions[1].parametrizations.weight

    def score(weight: Tensor) -> Tensor:
        """Spectral norm divides the gradient too: the norm is not a constant."""
        return part[0](weight).sin().sum()

    assert torch.autograd.gradcheck(score, part.original.detach().clone().requires_grad_())
