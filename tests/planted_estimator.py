"""ONNX networks whose answers a test can work out: linear in the mean of each colour channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


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
