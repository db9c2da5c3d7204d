from __future__ import annotations

import pytest
import torch
from torch import nn

from facemtl.networks.released.renaming import ReleasedFormat, ReleasedWeightsError, load_released

FORMAT = ReleasedFormat(
    "a test's format", ((r"first\.(weight|bias)", r"0.\1"), (r"second\.(.+)", r"1.\1")), (r"table",)
)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_wrappers_and_constant_tables_do_not_matter() -> None:
    net = network()
    state = {
        "module._orig_mod.first.weight": torch.ones(3, 2),
        "first.bias": torch.ones(3),
        "module.second.weight": torch.ones(1, 3),
        "second.bias": torch.ones(1),
        "table": torch.zeros(9),
    }
    load_released(net, state, FORMAT)
    assert all(bool((parameter == 1).all()) for parameter in net.parameters())


def test_every_problem_is_listed_and_nothing_is_loaded() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = {"first.weight": torch.zeros(3, 5), "second.gamma": torch.zeros(1), "third": torch.zeros(1)}
    with pytest.raises(ReleasedWeightsError) as caught:
        load_released(net, state, FORMAT)
    message = str(caught.value)
    assert "unknown: third" in message
    assert "unknown: 1.gamma" in message
    assert "missing: 0.bias (3,)" in message
    assert "missing: 1.weight (1, 3)" in message
    assert "misshapen: 0.weight wanted (3, 2), got (3, 5)" in message
    assert "(6 problems)" in message
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
