from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facemtl.networks.patch_discriminator import PatchDiscriminator

seeds = st.integers(0, 2**16)
PRESETS = [PatchDiscriminator, PatchDiscriminator.code2021]
presets = pytest.mark.parametrize("preset", PRESETS, ids=["paper2021", "code2021"])


def images_and_groups(batch: int = 2, size: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, size, size, generator=generator), torch.arange(batch) % 7


def normalised(discriminator: PatchDiscriminator) -> list[Any]:
    return [part for part in discriminator.convolutions if hasattr(part, "parametrizations")]


def spectral_vectors(discriminator: PatchDiscriminator) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in discriminator.named_buffers()}


@pytest.mark.parametrize(("size", "paper", "code"), [(112, 7, 5), (128, 8, 6), (256, 16, 14), (48, 3, 1)], ids=str)
def test_map_sizes_of_the_presets(size: int, paper: int, code: int) -> None:
    images, groups = images_and_groups(1, size)
    assert PatchDiscriminator(width=1)(images, groups).shape == (1, 1, paper, paper)
    assert PatchDiscriminator.code2021(width=1)(images, groups).shape == (1, 1, code, code)


@given(batch=st.integers(0, 2), height=st.integers(16, 90), width=st.integers(16, 90), code=st.booleans())
def test_any_size_from_the_smallest_on(batch: int, height: int, width: int, code: bool) -> None:
    grow = 32 if code else 0
    discriminator = (PatchDiscriminator.code2021 if code else PatchDiscriminator)(3, width=2)
    images = torch.zeros(batch, 3, height + grow, width + grow)
    output = discriminator(images, torch.zeros(batch, dtype=torch.long))
    assert output.shape == (batch, 1, height // 16, width // 16)


def test_layers_are_those_of_the_paper() -> None:
    paper, code = PatchDiscriminator(), PatchDiscriminator.code2021()
    channels = [(3, 64), (71, 128), (128, 256), (256, 512), (512, 512), (512, 1)]
    for discriminator, kernels in ((paper, (4, 4, 4, 4, 3, 3)), (code, (4,) * 6)):
        layers = list(discriminator.convolutions)
        assert [(layer.in_channels, layer.out_channels) for layer in layers] == channels
        assert [layer.kernel_size[0] for layer in layers] == list(kernels)
        assert [layer.stride[0] for layer in layers] == [2, 2, 2, 2, 1, 1]
    assert normalised(paper) == list(paper.convolutions[:5])
    assert normalised(code) == list(code.convolutions[1:5])


@presets
def test_largest_singular_values_become_one(preset: Any) -> None:
    discriminator = preset(width=4)
    with torch.no_grad():
        for part in normalised(discriminator):
            part.parametrizations.weight.original.mul_(7.0)
        for _ in range(200):
            discriminator(*images_and_groups(1))
        for part in normalised(discriminator.eval()):
            assert float(torch.linalg.svdvals(part.weight.flatten(1))[0]) == pytest.approx(1.0, abs=1e-3)


@given(seed=seeds)
def test_few_steps_already_bound_the_singular_values(seed: int) -> None:
    torch.manual_seed(seed)
    discriminator = PatchDiscriminator(width=4)
    with torch.no_grad():
        discriminator(*images_and_groups(1))
        for part in normalised(discriminator.eval()):
            assert 1.0 - 1e-5 <= float(torch.linalg.svdvals(part.weight.flatten(1))[0]) <= 1.3


@presets
def test_eval_mode_is_a_fixed_function_and_train_mode_moves_the_vectors(preset: Any) -> None:
    discriminator = preset(width=2).eval()
    inputs = images_and_groups()
    before = spectral_vectors(discriminator)
    assert torch.equal(discriminator(*inputs), discriminator(*inputs))
    assert all(torch.equal(value, before[name]) for name, value in discriminator.named_buffers())
    with torch.no_grad():
        discriminator.train()(*inputs)
    assert not all(torch.equal(value, before[name]) for name, value in discriminator.named_buffers())


def test_deepcopy_is_independent_and_keeps_the_vectors() -> None:
    discriminator = PatchDiscriminator(width=2)
    average = copy.deepcopy(discriminator)
    before = spectral_vectors(average)
    discriminator(*images_and_groups())
    assert all(torch.equal(value, before[name]) for name, value in average.named_buffers())
    average.load_state_dict(discriminator.state_dict())
    assert torch.equal(average.eval()(*images_and_groups()), discriminator.eval()(*images_and_groups()))


def test_state_dict_holds_the_vectors() -> None:
    discriminator = PatchDiscriminator.code2021(width=2)
    state = discriminator.state_dict()
    assert sum(name.endswith(("._u", "._v")) for name in state) == 8
    assert "convolutions.0.weight" in state
    assert "convolutions.5.weight" in state


def test_real_and_fake_passes_before_one_backward() -> None:
    discriminator = PatchDiscriminator(width=2)
    real, fake = discriminator(*images_and_groups(seed=1)), discriminator(*images_and_groups(seed=2))
    ((real - 1).square().mean() + fake.square().mean()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())


def test_norms_keep_their_precision_inside_autocast() -> None:
    plain, mixed = PatchDiscriminator(width=4), None
    mixed = copy.deepcopy(plain)
    plain(*images_and_groups())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixed(*images_and_groups()).dtype == torch.bfloat16
    for (name, got), want in zip(mixed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(got, want), name


@given(seed=seeds)
def test_the_group_matters_and_the_batch_order_does_not(seed: int) -> None:
    torch.manual_seed(seed)
    discriminator = PatchDiscriminator(width=4, dtype=torch.float64).eval()
    images, groups = images_and_groups(3, 32, seed)
    scores = discriminator(images.double(), groups)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(discriminator(images.double()[order], groups[order]), scores[order], rtol=0, atol=1e-12)
    others = discriminator(images.double(), (groups + 1) % 7)
    assert (scores - others).abs().amax(dim=(1, 2, 3)).min() > 1e-6


def test_a_meta_discriminator_loads_a_state_dict() -> None:
    discriminator = PatchDiscriminator(width=2).eval()
    other = PatchDiscriminator(width=2, device="meta").to_empty(device="cpu").eval()
    other.load_state_dict(discriminator.state_dict())
    assert torch.equal(other(*images_and_groups()), discriminator(*images_and_groups()))


def test_meta_images_give_the_shape() -> None:
    images, groups = images_and_groups(5, 112)
    discriminator = PatchDiscriminator(width=2, device="meta")
    assert discriminator(images.to("meta"), groups.to("meta")).shape == (5, 1, 7, 7)
