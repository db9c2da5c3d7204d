from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from facemtl import MTLFace, to_model_input
from facemtl.data.estimators import MTLFaceEstimator, OnnxEstimator
from facemtl.data.resizing import resized
from tests.planted_estimator import write_channel_network


def flat(*colours: tuple[int, int, int], size: tuple[int, int] = (16, 12)) -> torch.Tensor:
    """Images of one colour each."""
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, *size).contiguous()


RED_GREEN = flat((200, 40, 0), (10, 80, 250))


@pytest.mark.parametrize(
    ("options", "columns", "expected"),
    [
        # pixels as they are: years = red channel / 4
        ({"mean": 0, "std": 1}, 0, [50.0, 2.5]),
        # the file wants blue first: its first channel is our blue one
        ({"mean": 0, "std": 1, "channel_order": "bgr"}, 0, [0.0, 62.5]),
        # scaled to [-1, 1]
        ({"mean": 127.5, "std": 127.5}, 0, [(200 / 127.5 - 1) / 4, (10 / 127.5 - 1) / 4]),
    ],
)
def test_pixels_are_scaled_and_ordered_as_declared(
    tmp_path: Path, options: dict[str, Any], columns: int, expected: list[float]
) -> None:
    path = write_channel_network(tmp_path / "age.onnx", [[0.25], [0.0], [0.0]], [0.0])
    estimated = OnnxEstimator(path, **options)(RED_GREEN)
    assert estimated.ages.tolist() == pytest.approx([max(age, 0.0) for age in expected], abs=1e-4)
    assert estimated.genders is None


def test_each_reading(tmp_path: Path) -> None:
    def ages(reading: Any, weights: list[list[float]], bias: list[float]) -> Any:
        path = write_channel_network(tmp_path / f"{reading}.onnx", weights, bias)
        return OnnxEstimator(path, reading=reading, mean=0, std=1)(RED_GREEN)

    none = [[0.0], [0.0], [0.0]]
    assert ages("years", none, [31.0]).ages.tolist() == [31.0, 31.0]
    assert ages("fraction", none, [0.31]).ages.tolist() == pytest.approx([31.0, 31.0])
    flat_101 = [[0.0] * 101] * 3
    assert ages("logits", flat_101, [0.0] * 101).ages.tolist() == pytest.approx([50.0, 50.0], abs=1e-3)
    assert ages("probabilities", flat_101, [0.0] * 30 + [0.5, 0.5] + [0.0] * 69).ages.tolist() == [30.5, 30.5]
    # female's score is the green channel, male's the red one
    both = ages("insightface", [[0.0, 1.0, 0.001], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0.0, 0.0, 0.1])
    assert both.ages.tolist() == pytest.approx([30.0, 11.0], abs=1e-3)
    assert both.genders.tolist() == [1, 0]


def test_genders_come_from_an_output_of_their_own(tmp_path: Path) -> None:
    path = write_channel_network(
        tmp_path / "both.onnx", [[0.1], [0.0], [0.0]], [0.0], gender=[[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    )
    estimated = OnnxEstimator(path, mean=0, std=1, age_output="ages", gender_output="genders")(RED_GREEN)
    assert estimated.genders is not None
    assert estimated.genders.tolist() == [1, 0]


@pytest.mark.parametrize("faces", [0, 1, 3, 4, 5])
def test_files_of_a_fixed_batch_take_any_number(tmp_path: Path, faces: int) -> None:
    images = torch.randint(0, 256, (faces, 3, 16, 12), dtype=torch.uint8)
    any_batch = write_channel_network(tmp_path / "any.onnx", [[0.1], [0.05], [0.0]], [3.0])
    fixed = write_channel_network(tmp_path / "fixed.onnx", [[0.1], [0.05], [0.0]], [3.0], batch=3)
    estimated = OnnxEstimator(fixed, mean=0, std=1)(images).ages
    assert estimated.shape == (faces,)
    assert torch.allclose(estimated, OnnxEstimator(any_batch, mean=0, std=1)(images).ages)


def test_sizes_are_the_files_or_the_callers(tmp_path: Path) -> None:
    path = write_channel_network(tmp_path / "a.onnx", [[0.1], [0.0], [0.0]], [0.0])
    assert OnnxEstimator(path).input_size == (16, 12)
    free = write_channel_network(tmp_path / "b.onnx", [[0.1], [0.0], [0.0]], [0.0], size=("height", "width"))
    assert OnnxEstimator(free, input_size=(96, 96)).input_size == (96, 96)
    with pytest.raises(ValueError, match=r"declares no size of its images but \['batch', 3, 'height', 'width'\]"):
        OnnxEstimator(free)


def test_mtlface_estimates_what_the_model_says(tmp_path: Path) -> None:
    model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=8)
    faces = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    expected = model.estimate_age(to_model_input(faces))
    assert torch.equal(MTLFaceEstimator(model)(faces).ages, expected)
    model.save_pretrained(tmp_path)
    assert torch.equal(MTLFaceEstimator(tmp_path)(faces).ages, expected)


def test_resizing_averages() -> None:
    checks = torch.zeros(3, 32, 32, dtype=torch.uint8)
    checks[:, ::2, 1::2] = 255
    checks[:, 1::2, ::2] = 255
    small = resized(checks, (8, 8))
    assert small.shape == (3, 8, 8)
    assert int((small.int() - 127).abs().max()) <= 1
    assert resized(checks, (32, 32)) is checks
