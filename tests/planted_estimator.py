"""Estimators whose answers a test can work out: from the mean of each colour channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemtl.data.estimators import EstimatedAttributes


def write_channel_network(
    path: Path,
    weights: Sequence[Sequence[float]],
    bias: Sequence[float],
    *,
    batch: int | str = "batch",
    size: tuple[int | str, int | str] = (16, 12),
    gender: Sequence[Sequence[float]] | None = None,
) -> Path:
    """Write a network whose output ``ages`` is ``mean of the channels · weights (3, n) + bias (n,)``.

    ``gender`` ``(3, 2)`` adds an output ``genders`` of the same kind.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    columns = len(bias)
    tensors = {"weights": np.array(weights, np.float32), "bias": np.array(bias, np.float32)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["ages"]),
    ]
    outputs = [helper.make_tensor_value_info("ages", TensorProto.FLOAT, [batch, columns])]
    if gender is not None:
        tensors["gender_weights"] = np.array(gender, np.float32)
        nodes.append(helper.make_node("MatMul", ["means", "gender_weights"], ["genders"]))
        outputs.append(helper.make_tensor_value_info("genders", TensorProto.FLOAT, [batch, 2]))
    graph = helper.make_graph(
        nodes,
        "channels",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class BrightnessEstimator:
    """Ages are the mean of the red channel / 2.55, and faces are male whose green channel is brighter than red.

    A class of the module, so that worker processes can have it; it keeps the sizes of the batches that it was given.
    """

    def __init__(self, input_size: tuple[int, int] = (24, 20), *, genders: bool = True, extra: int = 0) -> None:
        self.input_size, self.genders, self.extra = input_size, genders, extra
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> EstimatedAttributes:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, *self.input_size)
        self.batches.append(len(images))
        red, green, _ = images.double().mean((2, 3)).unbind(1)
        ages = torch.cat([red / 2.55, torch.zeros(self.extra)])
        return EstimatedAttributes(ages.float(), (green > red).long() if self.genders else None)
