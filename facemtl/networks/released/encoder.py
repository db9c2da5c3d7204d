"""The IR encoder of the authors' CVPR training code, and of their journal package, which names it alike."""

from __future__ import annotations

from facemtl.networks.released.renaming import ReleasedFormat

Rules = tuple[tuple[str, str], ...]


def under(prefix: str, rules: Rules) -> Rules:
    """Return ``rules`` for a part that sits at ``prefix`` (with its dot) in the network that loads them."""
    return tuple((pattern, prefix + replacement) for pattern, replacement in rules)


_UNIT = r"block([1-4])\.(\d+)\."

BACKBONE_2021_RULES: Rules = (
    (r"input_layer\.0\.(.+)", r"stem.convolution.\1"),
    (r"input_layer\.1\.(.+)", r"stem.norm.\1"),
    (r"input_layer\.2\.(.+)", r"stem.activation.\1"),
    (_UNIT + r"res_layer\.0\.(.+)", r"stage\1.\2.norm1.\3"),
    (_UNIT + r"res_layer\.1\.(.+)", r"stage\1.\2.conv1.\3"),
    (_UNIT + r"res_layer\.2\.(.+)", r"stage\1.\2.norm2.\3"),
    (_UNIT + r"res_layer\.3\.(.+)", r"stage\1.\2.activation.\3"),
    (_UNIT + r"res_layer\.4\.(.+)", r"stage\1.\2.conv2.\3"),
    (_UNIT + r"res_layer\.5\.(.+)", r"stage\1.\2.norm3.\3"),
    (_UNIT + r"res_layer\.6\.fc1\.(.+)", r"stage\1.\2.excitation.squeeze.\3"),
    (_UNIT + r"res_layer\.6\.fc2\.(.+)", r"stage\1.\2.excitation.excite.\3"),
    (_UNIT + r"shortcut_layer\.0\.(.+)", r"stage\1.\2.shortcut.convolution.\3"),
    (_UNIT + r"shortcut_layer\.1\.(.+)", r"stage\1.\2.shortcut.norm.\3"),
)
"""Rules for an :class:`~facemtl.networks.iresnet.IRBackbone` with ``shortcut="subsample"``."""

EMBEDDING_2021_RULES: Rules = (
    (r"output_layer\.0\.(.+)", r"input_norm.\1"),
    (r"output_layer\.3\.(.+)", r"linear.\1"),
    (r"output_layer\.4\.(.+)", r"output_norm.\1"),
)
"""Rules for an :class:`~facemtl.layers.embedding.EmbeddingHead`."""

ENCODER_2021 = ReleasedFormat(
    "the CVPR 2021 training code's IR encoder",
    rules=(*under("backbone.", BACKBONE_2021_RULES), *under("embedding.", EMBEDDING_2021_RULES)),
)
"""Of an :class:`~facemtl.networks.iresnet.IRResNet` with ``shortcut="subsample"``."""

ENCODER_2022 = ReleasedFormat(
    "the TPAMI 2022 package's IR encoder",
    rules=tuple((r"encoder\." + pattern, replacement) for pattern, replacement in ENCODER_2021.rules),
    ignored=(
        r"encoder\.(?:fsm|styles|upsample\d|latlayer\d|aging\d)\..+",
        r"(?:decoder|age_estimator)\..+",
    ),
)
"""The same out of the whole package's weights."""
