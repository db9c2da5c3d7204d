from __future__ import annotations

import itertools

import pytest
import torch

from facemtl.layers.bank_convolution import bank_conv2d
from facemtl.layers.filter_bank import FilterBankLayout, bank_to_dense, group_rows
from facemtl.layers.routing import route, route_all

DOUBLE = torch.float64
SMALL = FilterBankLayout(num_groups=3, unit=4, shared_fraction=1 / 4)


def test_spans_of_the_paper_and_of_the_code() -> None:
    paper = FilterBankLayout()
    assert paper.starts == (0, 112, 224, 336, 448, 560, 672)
    assert (paper.channels, paper.dense_channels, paper.shared) == (800, 800, 16)
    assert paper.num_pairs == 7 * 128**2 - 6 * 16**2
    code = FilterBankLayout(shared_fraction=0.1)
    assert code.starts == (0, 115, 230, 345, 460, 575, 690)
    assert (code.channels, code.dense_channels, code.shared) == (818, 819, 13)
    assert paper.spans[1] == slice(112, 240)


def test_a_fraction_that_floats_cannot_hold_gives_whole_channels() -> None:
    # (1 - 0.7) * 10 and the like miss a whole number by an ulp either way; 0.41 * 100 = 59.000000000000014 kept.
    assert FilterBankLayout(unit=100, shared_fraction=0.41).step == 59
    assert FilterBankLayout(unit=10, shared_fraction=0.2).step == 8


def test_the_same_rows_of_all_groups_are_one_strided_view() -> None:
    layout = FilterBankLayout(num_groups=5, unit=8, shared_fraction=1 / 4)
    bank = torch.arange(1.0 * layout.num_pairs).view(-1, 1, 1)
    own = torch.stack([group_rows(bank, group, layout)[1][0] for group in range(5)])
    period = layout.unit**2 - layout.shared**2
    first = layout.shared * layout.unit
    view = bank.as_strided((5, 4, 8, 1, 1), (period, 8, 1, 1, 1), first)
    assert torch.equal(own, view)


def test_shared_filters_are_the_same_memory() -> None:
    bank = torch.zeros(SMALL.num_pairs, 1, 1)
    after = group_rows(bank, 0, SMALL)[2][0]
    before = group_rows(bank, 1, SMALL)[0][0]
    after[:, -SMALL.shared :] = 5.0
    assert (before[:, : SMALL.shared] == 5.0).all()
    assert int((bank == 5.0).sum()) == SMALL.shared**2


def naive(features: torch.Tensor, dense: torch.Tensor, groups: list[int], layout: FilterBankLayout) -> torch.Tensor:
    """Sample by sample and tap by tap, from the dense bank."""
    batch, unit, height, width = features.shape
    output = torch.zeros_like(features)
    for sample, out, row, column in itertools.product(range(batch), range(unit), range(height), range(width)):
        start = layout.starts[groups[sample]]
        for channel, down, right in itertools.product(range(unit), range(3), range(3)):
            y, x = row + down - 1, column + right - 1
            if 0 <= y < height and 0 <= x < width:
                weight = dense[start + out, start + channel, down, right]
                output[sample, out, row, column] += weight * features[sample, channel, y, x]
    return output


def test_equals_a_naive_loop(generator: torch.Generator) -> None:
    bank = torch.randn(SMALL.num_pairs, 3, 3, generator=generator, dtype=DOUBLE)
    features = torch.randn(3, 4, 3, 2, generator=generator, dtype=DOUBLE)
    groups = [0, 1, 1]
    got = bank_conv2d(features, bank, route(torch.tensor(groups), 3).routing, SMALL, form="compact")
    torch.testing.assert_close(got, naive(features, bank_to_dense(bank, SMALL), groups, SMALL), rtol=0, atol=1e-13)


def shapes_of(form: str, kernel: int) -> tuple[tuple[int, ...], int]:
    """Weight shape and input channels of a form."""
    width, unit = SMALL.channels, SMALL.unit
    return {
        "compact": ((SMALL.num_pairs, kernel, kernel), unit),
        "out": ((width, 3, kernel, kernel), 3),
        "in": ((5, width, kernel, kernel), unit),
        "both": ((width, width, kernel, kernel), unit),
    }[form]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("form", ["compact", "out", "in", "both"])
def test_first_and_second_derivatives(form: str, kernel: int, generator: torch.Generator) -> None:
    shape, channels = shapes_of(form, kernel)
    weight = torch.randn(shape, generator=generator, dtype=DOUBLE, requires_grad=True)
    features = torch.randn(3, channels, 2, 3, generator=generator, dtype=DOUBLE, requires_grad=True)
    routing = route(torch.tensor([2, 0, 2]), 3).routing

    def convolve(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return bank_conv2d(features, weight, routing, SMALL, form=form)

    assert torch.autograd.gradcheck(convolve, (features, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(convolve, (features, weight), fast_mode=True)


@pytest.mark.parametrize("host_loop", [True, False])
@pytest.mark.parametrize("frozen", ["features", "weight"])
def test_derivatives_where_one_side_is_frozen(
    frozen: str, host_loop: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backward operator then leaves out one of its two gradients, in the second derivative as well."""
    monkeypatch.setattr("facemtl.layers.bank_convolution._host_loop", lambda _: host_loop)
    sides = {
        "weight": torch.randn(SMALL.num_pairs, 3, 3, generator=generator, dtype=DOUBLE),
        "features": torch.randn(3, 4, 2, 3, generator=generator, dtype=DOUBLE),
    }
    constant = sides.pop(frozen)
    ((_, moving),) = sides.items()
    routing = route(torch.tensor([2, 0, 2]), 3).routing

    def convolve(moving: torch.Tensor) -> torch.Tensor:
        features, weight = (constant, moving) if frozen == "features" else (moving, constant)
        return bank_conv2d(features, weight, routing, SMALL, form="compact").pow(3)

    moving.requires_grad_()
    assert torch.autograd.gradcheck(convolve, (moving,), fast_mode=True)
    assert torch.autograd.gradgradcheck(convolve, (moving,), fast_mode=True)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("form", ["compact", "out", "in", "both"])
def test_the_path_of_other_devices_equals_the_path_of_the_cpu(
    form: str, kernel: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA kernels are gathered sample by sample; the same code run here must give the same."""
    shape, channels = shapes_of(form, kernel)
    weight = torch.randn(shape, generator=generator, dtype=DOUBLE, requires_grad=True)
    features = torch.randn(4, channels, 3, 3, generator=generator, dtype=DOUBLE, requires_grad=True)
    routing = route(torch.tensor([2, 0, 2, 1]), 3).routing
    results = []
    for host_loop in (True, False):
        monkeypatch.setattr("facemtl.layers.bank_convolution._host_loop", lambda _, value=host_loop: value)
        output = bank_conv2d(features, weight, routing, SMALL, form=form)
        results.append((output, *torch.autograd.grad(output.square().sum(), (features, weight))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


def test_route_sorts_stably_and_back() -> None:
    groups = torch.tensor([2, 0, 2, 1, 0], dtype=torch.int32)
    routed = route(groups, 4)
    assert routed.order.tolist() == [1, 4, 3, 0, 2]
    assert routed.routing.offsets.tolist() == [0, 2, 3, 5, 5]
    assert torch.equal(groups[routed.order][routed.inverse], groups)
    every = route_all(2, 3, torch.device("cpu"))
    assert every.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert every.offsets.tolist() == [0, 2, 4, 6]
