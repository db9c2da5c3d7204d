from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from facemtl.layers.bank_state import to_dense_state
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.networks.released.conditional import CONDITIONAL_2021, CONDITIONAL_2022, conditional_rules
from facemtl.networks.released.renaming import ReleasedWeightsError, load_released
from tests.cases import randomise
from tests.parity import ParityCase
from tests.references.masked_conditional import MaskedConditionalModule

DOUBLE = torch.float64


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("preset", "masked", "ours", "theirs"),
    [
        # Dense bank-to-bank weights shrink from 8·9·bank² to 8·9·num_pairs; idle biases are not stored.
        ("paper2021", {}, 8 * 9 * 113_152 + 2 * 800 * 512 + 512, 8 * 9 * 800**2 + 2 * 800 * 512 + 9 * 800 + 512),
        ("journal2022", {"activation": "leaky_relu"}, 8_966_656, 46_906_912),
    ],
)
def test_only_filters_that_act_are_stored(preset: str, masked: dict, ours: int, theirs: int) -> None:
    with torch.device("meta"):
        module = getattr(IdentityConditionalModule, preset)()
        original = MaskedConditionalModule(**masked)
    assert parameters_of(module) == ours == 8_966_656
    assert parameters_of(original) == theirs


def test_with_the_fraction_of_the_code_nine_of_forty_nine_million_act() -> None:
    with torch.device("meta"):
        module = IdentityConditionalModule(shared_fraction=0.1)
        original = MaskedConditionalModule(shared_fraction=0.1)
    assert parameters_of(module) == 9_022_672
    assert parameters_of(original) == 49_141_331


def test_each_stored_weight_acts_and_no_other(generator: torch.Generator) -> None:
    """Against the original: what is not in the compact bank has zero gradient there, what is has not."""
    options = {"num_groups": 4, "unit": 6, "shared_fraction": 1 / 3, "num_blocks": 2}
    module = IdentityConditionalModule(5, **options, dtype=DOUBLE)
    masked = MaskedConditionalModule(5, **options).double()
    masked.load_state_dict(to_dense_state(module, fill=0.5))
    maps = torch.randn(8, 5, 3, 3, generator=generator, dtype=DOUBLE)
    masked(maps, torch.arange(8) % 4).square().sum().backward()
    layout = module.layout
    acts = (layout.masks()[:, :, None] & layout.masks()[:, None, :]).any(0)
    for name in ("blocks.0.convolution1.weight", "blocks.1.convolution2.weight"):
        gradient = masked.get_parameter(name).grad
        assert gradient is not None
        assert torch.equal(gradient.abs().sum((2, 3)) > 0, acts)


def test_batch_norm_stays_exact_over_steps_of_training(generator: torch.Generator) -> None:
    """Parameters and statistics after five optimizer steps, then eval mode, in float64."""
    options = {"num_groups": 3, "unit": 6, "num_blocks": 1, "norm": "batch", "activation": "prelu", "output_norm": True}
    module = IdentityConditionalModule(5, **options, dtype=DOUBLE)
    masked = MaskedConditionalModule(5, **options).double()
    masked.load_state_dict(to_dense_state(module))
    maps = torch.randn(6, 5, 4, 3, generator=generator, dtype=DOUBLE)
    groups = torch.randint(0, 3, (6,), generator=generator)
    for network in (module, masked):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
        for _ in range(5):
            optimizer.zero_grad()
            network(maps, groups).pow(2).mean().backward()
            optimizer.step()
    dense = to_dense_state(module)
    for name, want in masked.state_dict().items():
        torch.testing.assert_close(dense[name], want, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(module.eval()(maps, groups), masked.eval()(maps, groups), rtol=1e-9, atol=1e-10)


def test_gradcheck(generator: torch.Generator) -> None:
    module = IdentityConditionalModule(3, num_groups=3, unit=4, num_blocks=1, activation="leaky_relu", dtype=DOUBLE)
    maps = torch.randn(3, 3, 3, 3, generator=generator, dtype=DOUBLE, requires_grad=True)
    groups = torch.tensor([1, 0, 1])
    names, values = zip(*module.named_parameters(), strict=True)

    def run(maps: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (maps, groups))

    assert torch.autograd.gradcheck(run, (maps, *values), fast_mode=True)


def test_parity_with_the_training_code(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "icm_cvpr")
    module = IdentityConditionalModule.code2021().eval()
    load_released(module, case.state(), CONDITIONAL_2021)
    with torch.no_grad():
        case.check("condition", module(case.input("x"), case.input("groups")))


def test_parity_with_the_journal_package(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "icm_pami")
    module = IdentityConditionalModule.journal2022()
    load_released(module, case.state(), CONDITIONAL_2022)
    maps = case.input("x").requires_grad_()
    condition = module(maps, case.input("groups"))
    condition.square().mean().backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    dense = to_dense_state(module, gradients)
    case.check("condition", condition)
    assert maps.grad is not None
    case.check("grad_x", maps.grad)
    case.check("grad_conv1", dense["entry.weight"])
    case.check("grad_block0", dense["blocks.0.convolution1.weight"])


def test_released_states_that_do_not_fit_are_refused() -> None:
    module = IdentityConditionalModule(5, num_groups=2, unit=4, num_blocks=0)
    width = module.layout.channels
    state = {"conv1.0.weight": torch.zeros(width - 1, 5, 1, 1), "conv1.0.bias": torch.zeros(width - 1)}
    with pytest.raises(ReleasedWeightsError, match=rf"misshapen: entry.weight wanted \({width}, 5, 1, 1\), got"):
        load_released(module, state, CONDITIONAL_2022)
    with pytest.raises(ReleasedWeightsError, match="unknown: conv9.weight"):
        load_released(module, {"conv9.weight": torch.zeros(1)}, CONDITIONAL_2022)
    assert ("conv2\\.0\\.(weight|bias)", "condition.exit.\\1") in conditional_rules("condition.")


@pytest.mark.compiled
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_one_static_graph_whatever_the_mix_of_groups(norm: str, generator: torch.Generator) -> None:
    torch.compiler.reset()
    module = IdentityConditionalModule(5, num_groups=4, unit=4, num_blocks=1, norm=norm).eval()
    randomise(module)
    compiled = torch.compile(module, fullgraph=True)
    mixes = ([0, 1, 2, 3, 0, 1], [2] * 6, [3, 3, 0, 0, 0, 0], [1, 0, 3, 2, 1, 0])
    for number, mix in enumerate(mixes):
        maps = torch.randn(6, 5, 3, 3, generator=generator)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            got = compiled(maps, torch.tensor(mix))
            gradients = torch.autograd.grad(got.square().sum(), list(module.parameters()))
        want = module(maps, torch.tensor(mix))
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        for left, right in zip(
            gradients, torch.autograd.grad(want.square().sum(), list(module.parameters())), strict=True
        ):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-4 * max(1.0, float(right.abs().max())))


@pytest.mark.compiled
def test_exports_to_onnx_with_any_batch() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    module = IdentityConditionalModule(5, num_groups=3, unit=4, num_blocks=1).eval()
    maps, groups = torch.randn(3, 5, 4, 4), torch.tensor([2, 0, 1])
    dynamic = {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        module, (maps, groups), dynamo=True, dynamic_shapes={"identity_map": dynamic, "groups": dynamic}
    )
    stream = io.BytesIO()
    program.save(stream)
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for size in (3, 5):
        maps, groups = torch.randn(size, 5, 4, 4), torch.arange(size) % 3
        names = [entry.name for entry in session.get_inputs()]
        (output,) = session.run(None, dict(zip(names, (maps.numpy(), groups.numpy()), strict=True)))
        torch.testing.assert_close(torch.from_numpy(output), module(maps, groups), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_cuda_equals_cpu(norm: str) -> None:
    module = IdentityConditionalModule(8, num_groups=3, unit=8, num_blocks=2, norm=norm, dtype=DOUBLE)
    maps, groups = torch.randn(6, 8, 5, 4, dtype=DOUBLE), torch.tensor([0, 2, 2, 1, 0, 2])
    results = []
    for device in ("cpu", "cuda"):
        module.to(device).zero_grad()
        output = module(maps.to(device), groups.to(device))
        output.square().sum().backward()
        results.append([output.cpu(), *(p.grad.cpu() for p in module.parameters() if p.grad is not None)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
