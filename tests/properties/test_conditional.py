from __future__ import annotations

import copy

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facemtl.layers.bank_state import from_dense_state, to_dense_state
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.conditional_multiscale import MultiScaleIdentityConditionalModule
from tests.cases import randomise
from tests.references.masked_conditional import MaskedConditionalModule

DOUBLE = torch.float64

options = st.fixed_dictionaries(
    {
        "num_groups": st.integers(1, 5),
        "unit": st.sampled_from([2, 4, 6, 10]),
        "shared_fraction": st.sampled_from([0.0, 0.1, 1 / 8, 0.3, 0.5]),
        "num_blocks": st.integers(0, 2),
        "norm": st.sampled_from(["instance", "batch"]),
        "activation": st.sampled_from(["relu", "prelu", "leaky_relu"]),
        "output_norm": st.booleans(),
    }
)
batches = st.integers(0, 6)
seeds = st.integers(0, 2**16)


def build(chosen: dict, seed: int) -> IdentityConditionalModule:
    module = IdentityConditionalModule(5, **chosen, dtype=DOUBLE)
    assert isinstance(randomise(module, seed), IdentityConditionalModule)
    return module


def draw(chosen: dict, batch: int, seed: int, size: tuple[int, int] = (3, 4)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, 5, *size, generator=generator, dtype=DOUBLE)
    return maps, torch.randint(0, chosen["num_groups"], (batch,), generator=generator)


@given(chosen=options, batch=batches, seed=seeds, training=st.booleans())
def test_equals_the_masked_original(chosen: dict, batch: int, seed: int, training: bool) -> None:
    """Outputs, gradients and running statistics, over every option."""
    assume(batch > 0)
    module = build(chosen, seed).train(training)
    masked = MaskedConditionalModule(5, **chosen).double().train(training)
    masked.load_state_dict(to_dense_state(module, fill=0.3), strict=True)
    maps, groups = draw(chosen, batch, seed)
    results = []
    for network in (module, masked):
        leaf = maps.clone().requires_grad_()
        output = network(leaf, groups)
        (output * torch.linspace(0.5, 1.5, output.numel(), dtype=DOUBLE).view_as(output)).sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        buffers = {name: b for name, b in network.named_buffers() if "running" in name}
        results.append((output, leaf.grad, gradients, buffers))
    (output, input_grad, gradients, buffers), (want, want_input_grad, want_gradients, want_buffers) = results
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(output, want, **close)
    # Gradients through normalisation grow by 1/sqrt(variance + eps); judge them by their largest value.
    gradients = to_dense_state(module, gradients)
    for name, expected in {**want_gradients, "input": want_input_grad}.items():
        got = input_grad if name == "input" else gradients[name]
        if name.endswith("bias") and name not in dict(module.named_parameters()):
            continue  # a bias that a norm makes idle: zero but for rounding in train mode, and not stored by ours
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12 * scale, msg=lambda m, n=name: f"{n}: {m}")
    buffers = to_dense_state(module, buffers)
    for name, expected in want_buffers.items():
        width = build_width(module, name, buffers)
        torch.testing.assert_close(buffers[name][:width], expected[:width], **close, msg=lambda m, n=name: f"{n}: {m}")


def build_width(module: IdentityConditionalModule, name: str, buffers: dict) -> int:
    """Channels to compare: channels of no group have statistics in the original alone."""
    return buffers[name].shape[0] if name.startswith("exit") else module.layout.channels


@given(chosen=options, seed=seeds, fill=st.floats(-2.0, 2.0))
def test_state_dicts_convert_both_ways(chosen: dict, seed: int, fill: float) -> None:
    module = build(chosen, seed)
    state = module.state_dict()
    back = from_dense_state(module, to_dense_state(module, fill=fill))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@given(chosen=options, batch=batches, seed=seeds, training=st.booleans())
def test_all_groups_is_each_group_in_turn(chosen: dict, batch: int, seed: int, training: bool) -> None:
    module = build(chosen, seed).train(training)
    other = copy.deepcopy(module)
    maps, _ = draw(chosen, batch, seed)
    number = chosen["num_groups"]
    want = other(maps.repeat_interleave(number, 0), torch.arange(number).repeat(batch))
    got = module.all_groups(maps)
    assert got.shape == (batch, number, 5, 3, 4)
    torch.testing.assert_close(got.flatten(0, 1), want, rtol=1e-11, atol=1e-11)
    for (name, left), right in zip(module.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@given(chosen=options, batch=batches, seed=seeds, training=st.booleans())
def test_a_permutation_of_the_batch_commutes(chosen: dict, batch: int, seed: int, training: bool) -> None:
    module = build(chosen, seed).train(training)
    maps, groups = draw(chosen, batch, seed)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(module(maps[order], groups[order]), module(maps, groups)[order], rtol=1e-11, atol=1e-11)


@given(chosen=options, seed=seeds, height=st.integers(1, 9), width=st.integers(1, 9))
def test_any_map_size_and_int32_groups(chosen: dict, seed: int, height: int, width: int) -> None:
    module = build(chosen, seed)
    maps, groups = draw(chosen, 2, seed, (height, width))
    output = module(maps, groups.int())
    assert output.shape == maps.shape
    assert output.isfinite().all()


@given(seed=seeds)
@settings(max_examples=5)
def test_one_pixel_under_instance_norm_is_zero(seed: int) -> None:
    module = build({"num_groups": 3, "unit": 4, "output_norm": True}, seed).train()
    maps, groups = draw({"num_groups": 3}, 2, seed, (1, 1))
    assert torch.equal(module(maps, groups), torch.zeros_like(maps))


@given(seed=seeds, batch=batches)
def test_scales_are_single_modules(seed: int, batch: int) -> None:
    scales = MultiScaleIdentityConditionalModule((5, 3), (4, 2), num_groups=3, num_blocks=1, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 5, 3, 3, generator=generator, dtype=DOUBLE)]
    maps.append(torch.randn(batch, 3, 6, 6, generator=generator, dtype=DOUBLE))
    groups = torch.randint(0, 3, (batch,), generator=generator)
    for scale, one, output, every in zip(
        scales.scales, maps, scales(maps, groups), scales.all_groups(maps), strict=True
    ):
        assert torch.equal(scale(one, groups), output)
        torch.testing.assert_close(every[torch.arange(batch), groups], output, rtol=1e-11, atol=1e-11)
