"""The authors' reference values: states, inputs and outputs of one case."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


def _rule(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_rule", folder / "rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ParityCase:
    """One case of the parity folder, as torch tensors."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._rule = _rule(folder)
        self._case: dict[str, Any] = json.loads((folder / "cases.json").read_text())[name]
        self._reference = np.load(folder / "reference.npz")

    def state(self) -> dict[str, Tensor]:
        """The released state dict."""
        return {key: torch.from_numpy(value) for key, value in self._rule.state_dict_for(self.name).items()}

    def input(self, name: str) -> Tensor:
        """A random input, or the listed values."""
        entry = self._case["inputs"][name]
        if "values" in entry:
            return torch.tensor(entry["values"])
        return torch.from_numpy(self._rule.input_for(self.name, name, tuple(entry["shape"])))

    def check(self, name: str, output: Tensor, *, tolerance: float = 1e-4) -> None:
        """Assert that ``output`` equals the reference to ``tolerance`` relative to the largest value."""
        assert list(output.shape) == self._case["outputs"][name]["shape"], f"{self.name}/{name}: {tuple(output.shape)}"
        want = self._reference[f"{self.name}/{name}"]
        got = self._rule.sampled(output.detach().numpy())
        assert np.isfinite(got).all()
        error = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-12))
        assert error <= tolerance, f"{self.name}/{name}: relative error {error:.2e}"
