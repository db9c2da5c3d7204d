"""facemtl: PyTorch blocks for face models that do several things at once."""

from facemtl._core.checks import ShapeError, value_checks
from facemtl._core.version import __version__
from facemtl.layers.reversal import GradientReversal, dann_strength, reverse_gradient
from facemtl.networks.pixels import to_model_input, to_uint8

__all__ = [
    "GradientReversal",
    "ShapeError",
    "__version__",
    "dann_strength",
    "reverse_gradient",
    "to_model_input",
    "to_uint8",
    "value_checks",
]
