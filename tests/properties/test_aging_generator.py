from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.networks.aging_generator import AgingGenerator
from tests.cases import randomise

CHANNELS, WIDTHS = (8, 6, 5, 4), (6, 5, 4, 3)
seeds = st.integers(0, 2**16)


def paper() -> AgingGenerator:
    return AgingGenerator(channels=CHANNELS, widths=WIDTHS, dtype=torch.float64)


def code() -> AgingGenerator:
    return AgingGenerator.code2021(channels=CHANNELS, widths=WIDTHS, dtype=torch.float64)


def one_hot() -> AgingGenerator:
    condition = OneHotCondition(8, num_groups=3, dtype=torch.float64)
    return AgingGenerator(condition, channels=CHANNELS, widths=WIDTHS, global_residual=False, dtype=torch.float64)


MAKERS = [paper, code, one_hot]
makers = st.sampled_from(MAKERS)


def faces(seed: int, batch: int, rows: int = 2, columns: int = 2) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def randn(channels: int, scale: int) -> Tensor:
        return torch.randn(batch, channels, rows * scale, columns * scale, generator=generator, dtype=torch.float64)

    return randn(8, 1), (randn(4, 8), randn(5, 4), randn(6, 2)), randn(3, 16)


def trained(make: Any, seed: int) -> AgingGenerator:
    """A generator whose change of the image is as large as the image."""
    torch.manual_seed(seed)
    module = randomise(make(), seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.normal_(std=part.weight[0].numel() ** -0.5)
    return module


@given(make=makers, batch=st.integers(0, 2), rows=st.integers(1, 3), columns=st.integers(1, 3), seed=seeds)
def test_any_size_that_is_a_multiple_of_16_comes_back(
    make: Any, batch: int, rows: int, columns: int, seed: int
) -> None:
    identity_map, levels, images = faces(seed, batch, rows, columns)
    generator = make().eval()
    output = generator(identity_map, levels, images, torch.zeros(batch, dtype=torch.long))
    assert output.shape == images.shape == (batch, 3, 16 * rows, 16 * columns)
    everything = generator.all_groups(identity_map, levels, images)
    assert everything.shape == (batch, generator.condition.num_groups, *images.shape[1:])
    assert output.isfinite().all()


@pytest.mark.parametrize("make", [paper, code])
def test_output_is_the_input_when_the_last_convolution_is_zero(make: Any) -> None:
    generator = make()
    nn.init.zeros_(generator.output.weight)
    identity_map, levels, images = faces(5, 2)
    assert torch.equal(generator(identity_map, levels, images, torch.tensor([0, 6])), images)
    assert torch.equal(
        generator.all_groups(identity_map, levels, images), images.unsqueeze(1).expand(-1, 7, -1, -1, -1)
    )


def test_without_the_global_residual_the_decoder_paints_the_whole_image() -> None:
    generator = trained(one_hot, 0)
    identity_map, levels, images = faces(5, 2)
    groups = torch.tensor([0, 2])
    change = generator(identity_map, levels, images, groups)
    generator.global_residual = True
    torch.testing.assert_close(generator(identity_map, levels, images, groups), images + change)


def test_sizes_double_from_7_to_112() -> None:
    generator = paper()
    sizes: list[int] = []
    for part in generator.levels:
        part.joint.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    identity_map, levels, images = faces(1, 1, 7, 7)
    generator(identity_map, levels, images, torch.tensor([3]))
    assert (identity_map.shape[-1], *sizes) == (7, 14, 28, 56, 112)


@given(make=makers, batch=st.integers(1, 2), seed=seeds)
def test_all_groups_equal_the_repeated_way(make: Any, batch: int, seed: int) -> None:
    generator = trained(make, seed).eval()
    inputs = faces(seed, batch)
    together = generator.all_groups(*inputs)
    for group in range(together.shape[1]):
        alone = generator(*inputs, torch.full((batch,), group))
        torch.testing.assert_close(together[:, group], alone, rtol=0.0, atol=1e-10)


@given(make=makers, batch=st.integers(1, 3), targets=st.integers(1, 4), seed=seeds)
def test_many_equal_the_repeated_way(make: Any, batch: int, targets: int, seed: int) -> None:
    generator = trained(make, seed).eval()
    inputs = faces(seed, batch)
    groups = torch.randint(0, 3, (batch, targets), generator=torch.Generator().manual_seed(seed))
    together = generator.many(*inputs, groups)
    assert together.shape == (batch, targets, *inputs[2].shape[1:])
    for target in range(targets):
        alone = generator(*inputs, groups[:, target])
        torch.testing.assert_close(together[:, target], alone, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_of_shared_targets_are_those_of_the_repeated_way(training: bool) -> None:
    """Train mode decodes all targets in one batch, eval mode on a CPU one after another."""
    generator = trained(paper, 4).train(training)
    inputs = faces(4, 2)
    weight = torch.randn(2, 7, 3, 32, 32, dtype=torch.float64)
    (generator.all_groups(*inputs) * weight).sum().backward()
    shared = [parameter.grad.clone() for parameter in generator.parameters()]
    generator.zero_grad()
    repeated = torch.stack([generator(*inputs, torch.full((2,), group)) for group in range(7)], dim=1)
    (repeated * weight).sum().backward()
    for got, parameter in zip(shared, generator.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-8, atol=1e-8)


def test_batch_norm_in_train_mode_sees_all_targets_as_one_batch() -> None:
    """So the targets of `many` equal a forward pass over faces that are repeated for each."""
    shared, repeated = trained(code, 4).train(), trained(code, 4).train()
    identity_map, levels, images = faces(4, 2)
    groups = torch.tensor([[0, 3, 6], [5, 1, 1]])
    got = shared.many(identity_map, levels, images, groups).flatten(0, 1)
    again = [value.repeat_interleave(3, 0) for value in (identity_map, *levels, images)]
    want = repeated(again[0], again[1:4], again[4], groups.flatten())
    torch.testing.assert_close(got, want, rtol=0.0, atol=1e-10)


@given(make=makers, seed=seeds)
def test_the_order_of_the_batch_does_not_matter(make: Any, seed: int) -> None:
    generator = trained(make, seed).eval()
    identity_map, levels, images = faces(seed, 3)
    groups, order = torch.tensor([0, 2, 1]), torch.tensor([2, 0, 1])
    want = generator(identity_map, levels, images, groups)[order]
    got = generator(identity_map[order], tuple(value[order] for value in levels), images[order], groups[order])
    torch.testing.assert_close(got, want, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("make", MAKERS)
def test_the_group_changes_the_face(make: Any) -> None:
    generator = trained(make, 1).eval()
    young, *_, old = generator.all_groups(*faces(1, 1)).unbind(1)
    pattern = (young - old) - (young - old).mean(dim=(2, 3), keepdim=True)  # more than another tint
    assert pattern.abs().max() > 1e-3


def test_the_default_condition_is_a_quarter_as_wide_as_the_identity_map() -> None:
    assert isinstance(paper().condition, IdentityConditionalModule)
    assert paper().condition.layout.unit == 2
    assert paper().condition.norm == "instance"
    assert code().condition.norm == "batch"


def test_the_stems_feature_may_stand_before_the_levels() -> None:
    generator = trained(paper, 2).eval()
    identity_map, levels, images = faces(2, 1)
    stem = torch.randn(1, 64, 32, 32)
    groups = torch.tensor([4])
    assert torch.equal(
        generator(identity_map, (stem, *levels), images, groups), generator(identity_map, levels, images, groups)
    )


@pytest.mark.compiled
def test_all_groups_compile_in_one_graph() -> None:
    torch.compiler.reset()
    generator = trained(one_hot, 3).float().eval()
    inputs = [value.float() if isinstance(value, Tensor) else [v.float() for v in value] for value in faces(3, 2)]
    with torch.no_grad():
        want = generator.all_groups(*inputs)
        # The graph is what counts here, not the code made of it: tests/contract compiles that of `forward`.
        got = torch.compile(generator.all_groups, fullgraph=True, backend="aot_eager")(*inputs)
    torch.testing.assert_close(got, want, rtol=0.0, atol=1e-4)
