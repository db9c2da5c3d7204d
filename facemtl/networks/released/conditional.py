"""The authors' identity conditional modules: of the CVPR 2021 training code and of the journal's inference package."""

from __future__ import annotations

from facemtl.layers.bank_state import from_dense_state
from facemtl.networks.released.renaming import ReleasedFormat


def conditional_rules(prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Rules of the identity conditional module whose keys of ours start with ``prefix`` (such as ``condition.``).

    Both releases name alike. Banks are dense there, and convolutions in front of a norm have a bias: pass the renamed
    state through :func:`~facemtl.layers.bank_state.from_dense_state`, which finds the banks wherever they are in a
    network.
    """
    norm = "weight|bias|running_mean|running_var|num_batches_tracked"
    return (
        (r"conv1\.0\.(weight|bias)", rf"{prefix}entry.\1"),
        (rf"conv1\.1\.({norm})", rf"{prefix}entry.norm.\1"),
        (r"conv1\.2\.weight", rf"{prefix}activation.weight"),
        (r"transform\.(\d+)\.conv([12])\.0\.(weight|bias)", rf"{prefix}blocks.\1.convolution\2.\3"),
        (rf"transform\.(\d+)\.conv([12])\.1\.({norm})", rf"{prefix}blocks.\1.convolution\2.norm.\3"),
        (r"transform\.(\d+)\.relu([12])\.weight", rf"{prefix}blocks.\1.activation\2.weight"),
        (r"conv2\.0\.(weight|bias)", rf"{prefix}exit.\1"),
        (rf"conv2\.1\.({norm})", rf"{prefix}exit.norm.\1"),
        (r"conv2\.2\.weight", rf"{prefix}output.weight"),
    )


DECODER_KEYS = (r"up_\d+\..+", r"conv3\..+")
"""Released keys of the decoder, which shares a state dict with the module."""


CONDITIONAL_2021 = ReleasedFormat(
    name="the identity conditional module of the authors' CVPR 2021 training code",
    rules=conditional_rules(),
    ignored=DECODER_KEYS,
    convert=from_dense_state,
)
"""For an ``IdentityConditionalModule.code2021()``; keys of the decoder beside it are passed over."""

CONDITIONAL_2022 = ReleasedFormat(
    name="the identity conditional module of the authors' journal package",
    rules=conditional_rules(),
    convert=from_dense_state,
)
"""For an ``IdentityConditionalModule.journal2022()``."""
