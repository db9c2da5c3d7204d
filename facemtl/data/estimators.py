"""Estimators of age and gender from faces: what labels a data set that came without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, shape_text
from facemtl._core.pixels import to_model_input
from facemtl.networks.mtlface import MTLFace

AgeReading = Literal["years", "fraction", "logits", "probabilities", "insightface"]
"""How ages are read from a network's output."""

_SLACK = 10.0  # years beyond [0, 100] that a regression may overshoot; beyond them the output is no age


class EstimatedAttributes(NamedTuple):
    """What an estimator says of a batch of faces."""

    ages: Tensor
    """``(batch,)`` float32 years in [0, 100]."""

    genders: Tensor | None
    """``(batch,)`` int64, 1 male and 0 female; ``None`` from estimators of age alone."""


@runtime_checkable
class AttributeEstimator(Protocol):
    """Anything that estimates ages, and perhaps genders: a callable with the size of the images that it wants."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        ...

    def __call__(self, images: Tensor) -> EstimatedAttributes:
        """Estimate from ``(batch, 3, height, width)`` uint8 RGB."""
        ...


class MTLFaceEstimator:
    """Estimates ages by an :class:`facemtl.MTLFace`; of genders it knows nothing.

    Args:
        model: Trained, or a folder that :meth:`facemtl.MTLFace.save_pretrained` wrote.
        input_size: Height and width of the aligned faces that it was built for.
        device: Where it runs.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=8)
        >>> estimated = MTLFaceEstimator(model)(torch.zeros(2, 3, 112, 112, dtype=torch.uint8))
        >>> estimated.ages.shape, estimated.genders
        (torch.Size([2]), None)
    """

    def __init__(
        self,
        model: MTLFace | str | Path,
        *,
        input_size: tuple[int, int] = (112, 112),
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        loaded = model if isinstance(model, MTLFace) else MTLFace.from_pretrained(model)
        self.model = loaded.to(self.device).eval()
        self.input_size = input_size

    def __call__(self, images: Tensor) -> EstimatedAttributes:
        """Estimate from ``(batch, 3, height, width)`` uint8 RGB."""
        return EstimatedAttributes(self.model.estimate_age(to_model_input(images.to(self.device))).float().cpu(), None)


class OnnxEstimator:
    """Estimates ages, and genders where it has an output for them, by a network in an ONNX file.

    A file does not say what its numbers mean: size, channel order and scaling of the pixels, and the reading of the
    output, are declared here. A wrong channel order costs accuracy without a word.

    Args:
        path: The ONNX file.
        reading: ``"years"``, a number a face; ``"fraction"``, years / 100; ``"logits"`` or ``"probabilities"`` over
            0, 1, 2, … years, of which the expectation is taken; ``"insightface"``, three numbers (scores of female and
            of male, years / 100), as its ``genderage.onnx`` gives.
        input_size: Height and width; by default those that the file declares.
        channel_order: ``"rgb"`` or ``"bgr"``.
        mean: Subtracted from pixels of 0 to 255.
        std: What they are divided by then.
        age_output: Name of the output that ages are read from; by default the first.
        gender_output: Name of an output ``(batch, 2)``, scores of female and of male.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If the file is no ONNX network, has no such output or no one image as its input; in a call, if the
            output is not what ``reading`` says, is not finite, or lies more than ten years outside 0 to 100.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        reading: AgeReading = "years",
        input_size: tuple[int, int] | None = None,
        channel_order: Literal["rgb", "bgr"] = "rgb",
        mean: float = 127.5,
        std: float = 127.5,
        age_output: str | None = None,
        gender_output: str | None = None,
    ) -> None:
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f'OnnxEstimator: \'channel_order\' must be "rgb" or "bgr", got {channel_order!r}.')
        if not std > 0:
            raise ValueError(f"OnnxEstimator: 'std' must be positive, got {std}.")
        self.path, self.reading, self.channel_order, self.mean, self.std = Path(path), reading, channel_order, mean, std
        self._session = _open(self.path)
        self._input = _image_input(self.path, self._session)
        self.input_size = input_size if input_size is not None else _declared_size(self.path, self._input.shape)
        names = [output.name for output in self._session.get_outputs()]
        for option, name in (("age_output", age_output), ("gender_output", gender_output)):
            if name is not None and name not in names:
                raise ValueError(f"OnnxEstimator: {str(path)!r} has no {option} {name!r}; its outputs are {names}.")
        self._outputs = [age_output or names[0], *([gender_output] if gender_output else [])]

    def __call__(self, images: Tensor) -> EstimatedAttributes:
        """Estimate from ``(batch, 3, height, width)`` uint8 RGB."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ShapeError(
                f"OnnxEstimator: 'images' must be uint8 (batch, 3, height, width), got {images.dtype} "
                f"{shape_text(images)}."
            )
        pixels = images.flip(1) if self.channel_order == "bgr" else images
        scaled = ((pixels.float() - self.mean) / self.std).numpy()
        outputs = self._run(np.ascontiguousarray(scaled))
        ages, genders = _read_ages(self.reading, outputs[0])
        if len(outputs) > 1:
            genders = _read_genders(outputs[1])
        return EstimatedAttributes(_checked(self.path, self.reading, ages), genders)

    def _run(self, scaled: npt.NDArray[np.float32]) -> list[Tensor]:
        """The outputs; in parts, the last one filled up, where the file was exported for batches of one size."""
        fixed = self._input.shape[0] if isinstance(self._input.shape[0], int) else max(len(scaled), 1)
        missing = -(-max(len(scaled), 1) // fixed) * fixed - len(scaled)  # no face at all is a part of fillings
        filled = np.concatenate([scaled, np.zeros((missing, *scaled.shape[1:]), np.float32)])
        parts = [
            self._session.run(self._outputs, {self._input.name: filled[start : start + fixed]})
            for start in range(0, len(filled), fixed)
        ]
        joined = [np.concatenate([np.asarray(part[at]) for part in parts]) for at in range(len(self._outputs))]
        return [torch.from_numpy(output[: len(scaled)].astype(np.float32)).flatten(1) for output in joined]


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('OnnxEstimator needs onnxruntime: pip install "facemtl[onnx]"') from error
    if not path.is_file():
        raise ValueError(f"OnnxEstimator: there is no file {str(path)!r}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise ValueError(f"OnnxEstimator: {str(path)!r} is no ONNX network: {str(error)[:200]}") from error


def _image_input(path: Path, session: Any) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = {one.name: one.shape for one in inputs}
        raise ValueError(f"OnnxEstimator: {str(path)!r} must take one batch of images, it takes {shapes}.")
    return inputs[0]


def _declared_size(path: Path, shape: list[Any]) -> tuple[int, int]:
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(
            f"OnnxEstimator: {str(path)!r} declares no size of its images but {shape}. Pass input_size=(height, width)."
        )
    return height, width


def _read_ages(reading: AgeReading, output: Tensor) -> tuple[Tensor, Tensor | None]:
    columns = output.shape[1]
    if reading in ("years", "fraction") and columns == 1:
        return output[:, 0] * (100.0 if reading == "fraction" else 1.0), None
    if reading == "insightface" and columns == 3:
        return output[:, 2] * 100.0, _read_genders(output[:, :2])
    if reading in ("logits", "probabilities") and columns > 1:
        distribution = output.softmax(1) if reading == "logits" else output
        sums = distribution.sum(1)
        if bool((distribution < -1e-3).any()) or bool(((sums - 1).abs() > 1e-2).any()):
            raise ValueError(
                "OnnxEstimator: rows of probabilities must be positive and sum to 1, got a sum of "
                f'{float(sums[(sums - 1).abs().argmax()]):g}. Is the reading "logits"?'
            )
        return distribution @ torch.arange(columns, dtype=torch.float32), None
    raise ValueError(f"OnnxEstimator: the output {shape_text(output)} cannot be read as {reading!r}.")


def _read_genders(scores: Tensor) -> Tensor:
    if scores.shape[1] != 2:
        raise ValueError(f"OnnxEstimator: genders are read from (batch, 2), female and male, got {shape_text(scores)}.")
    return scores.argmax(1)


def _checked(path: Path, reading: AgeReading, ages: Tensor) -> Tensor:
    """Ages within 0 to 100; far outside, the reading is wrong, and clamping would hide it."""
    wrong = ~((ages >= -_SLACK) & (ages <= 100 + _SLACK))
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"OnnxEstimator: {str(path)!r} gave {float(ages[at]):g} years for face {at} of the batch, read as "
            f"{reading!r}. Check reading, mean, std and channel_order."
        )
    return ages.clamp(0.0, 100.0)
