from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facemtl import ShapeError
from facemtl.data.estimators import OnnxEstimator
from tests.planted_estimator import write_channel_network

NONE = [[0.0], [0.0], [0.0]]
FACE = torch.zeros(1, 3, 16, 12, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("bias", "reading", "message"),
    [
        ([350.0], "years", r"gave 350 years for face 0 of the batch, read as 'years'"),
        ([-11.0], "years", r"gave -11 years"),
        ([float("nan")], "years", r"gave nan years"),
        ([1.0, 2.0], "years", r"\(1, 2\) cannot be read as 'years'"),
        ([1.0], "logits", r"\(1, 1\) cannot be read as 'logits'"),
        ([1.0, 2.0], "insightface", r"\(1, 2\) cannot be read as 'insightface'"),
        ([0.5, 0.7], "probabilities", r"sum to 1, got a sum of 1\.2\. Is the reading \"logits\"\?"),
    ],
)
def test_answers_that_are_no_ages(tmp_path: Path, bias: list[float], reading: Any, message: str) -> None:
    path = write_channel_network(tmp_path / "a.onnx", [[0.0] * len(bias)] * 3, bias)
    with pytest.raises(ValueError, match=message):
        OnnxEstimator(path, reading=reading)(FACE)


@pytest.mark.parametrize(("bias", "years"), [(-3.0, 0.0), (104.0, 100.0)])
def test_small_overshoots_are_clamped(tmp_path: Path, bias: float, years: float) -> None:
    path = write_channel_network(tmp_path / "a.onnx", NONE, [bias])
    assert OnnxEstimator(path)(FACE).ages.tolist() == [years]


def test_files_that_are_no_estimators(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file '.*absent\.onnx'"):
        OnnxEstimator(tmp_path / "absent.onnx")
    (tmp_path / "page.onnx").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.onnx' is no ONNX network"):
        OnnxEstimator(tmp_path / "page.onnx")
    path = write_channel_network(tmp_path / "a.onnx", NONE, [1.0])
    with pytest.raises(ValueError, match=r"has no age_output 'years'; its outputs are \['ages'\]"):
        OnnxEstimator(path, age_output="years")
    with pytest.raises(ValueError, match=r"'channel_order' must be \"rgb\" or \"bgr\", got 'gbr'"):
        OnnxEstimator(path, channel_order="gbr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'std' must be positive, got 0"):
        OnnxEstimator(path, std=0)


def test_images_must_be_bytes(tmp_path: Path) -> None:
    path = write_channel_network(tmp_path / "a.onnx", NONE, [1.0])
    with pytest.raises(
        ShapeError, match=r"must be uint8 \(batch, 3, height, width\), got torch.float32 \(1, 3, 16, 12\)"
    ):
        OnnxEstimator(path)(FACE.float())


def test_missing_onnxruntime_names_its_extra() -> None:
    code = """
import sys
sys.modules["onnxruntime"] = None
from facemtl.data.estimators import OnnxEstimator
try:
    OnnxEstimator("a.onnx")
except ImportError as error:
    assert 'pip install "facemtl[onnx]"' in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
