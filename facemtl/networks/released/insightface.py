"""The iresnets of insightface's arcface_torch."""

from __future__ import annotations

from facemtl.networks.released.encoder import Rules, under
from facemtl.networks.released.renaming import ReleasedFormat

_UNIT = r"layer([1-4])\.(\d+)\."

INSIGHTFACE_BACKBONE_RULES: Rules = (
    (r"conv1\.(.+)", r"stem.convolution.\1"),
    (r"bn1\.(.+)", r"stem.norm.\1"),
    (r"prelu\.(.+)", r"stem.activation.\1"),
    (_UNIT + r"bn([123])\.(.+)", r"stage\1.\2.norm\3.\4"),
    (_UNIT + r"conv([12])\.(.+)", r"stage\1.\2.conv\3.\4"),
    (_UNIT + r"prelu\.(.+)", r"stage\1.\2.activation.\3"),
    (_UNIT + r"downsample\.0\.(.+)", r"stage\1.\2.shortcut.convolution.\3"),
    (_UNIT + r"downsample\.1\.(.+)", r"stage\1.\2.shortcut.norm.\3"),
)
"""Rules for an :class:`~facemtl.networks.iresnet.IRBackbone` with ``shortcut="projection"``."""

INSIGHTFACE_EMBEDDING_RULES: Rules = (
    (r"bn2\.(.+)", r"input_norm.\1"),
    (r"fc\.(.+)", r"linear.\1"),
    (r"features\.(.+)", r"output_norm.\1"),
)
"""Rules for an :class:`~facemtl.layers.embedding.EmbeddingHead`; the last norm's weight is a constant 1 in training."""

INSIGHTFACE_IRESNET = ReleasedFormat(
    "insightface's iresnet",
    rules=(*under("backbone.", INSIGHTFACE_BACKBONE_RULES), *under("embedding.", INSIGHTFACE_EMBEDDING_RULES)),
)
"""Of an :class:`~facemtl.networks.iresnet.IRResNet` with ``shortcut="projection"``."""
