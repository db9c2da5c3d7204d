"""Exporting a block with `torch.export` and to ONNX, and holding both to the block itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.cases import tensors


def assert_exports(
    module: nn.Module,
    inputs: Callable[[int], tuple[Tensor, ...]],
    folder: Path,
    *,
    tolerance: float = 1e-5,
    batches: tuple[int, ...] = (1, 3, 5),
) -> None:
    """Assert that ``module`` exports with a dynamic batch and gives the same outside torch.

    Args:
        module: In eval mode.
        inputs: ``inputs(batch)`` gives the positional arguments, each with the batch on axis 0.
        folder: Where the ONNX file may be written.
        tolerance: Largest absolute error.
        batches: Batch sizes to compare at; the export itself sees a batch of 2.
    """
    import onnxruntime

    batch = torch.export.Dim("batch", min=1, max=64)
    dynamic = tuple({0: batch} for _ in inputs(2))
    program = torch.export.export(module, inputs(2), dynamic_shapes=dynamic)
    onnx_program = torch.onnx.export(
        module, inputs(2), dynamo=True, dynamic_shapes=dynamic, verbose=False, optimize=True
    )
    assert onnx_program is not None
    path = folder / "module.onnx"
    onnx_program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    for size in batches:
        values = inputs(size)
        with torch.no_grad():
            want = list(tensors(module(*values)))
            exported = list(tensors(program.module()(*values)))
        ran = [
            torch.from_numpy(output) for output in session.run(None, dict(zip(names, map(_numpy, values), strict=True)))
        ]
        for left, middle, right in zip(want, exported, ran, strict=True):
            torch.testing.assert_close(middle, left, rtol=0.0, atol=tolerance)
            torch.testing.assert_close(right, left, rtol=0.0, atol=tolerance)


def _numpy(tensor: Tensor) -> object:
    return tensor.detach().numpy()
