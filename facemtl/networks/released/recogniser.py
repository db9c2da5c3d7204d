"""The authors' recogniser: encoder, decomposition and embedding in one state dict."""

from __future__ import annotations

from torch import nn

from facemtl.networks.mtlface import MTLFace
from facemtl.networks.released.decomposition import DECOMPOSITION_RULES, pointwise_to_linear
from facemtl.networks.released.encoder import BACKBONE_2021_RULES, EMBEDDING_2021_RULES, under
from facemtl.networks.released.renaming import ReleasedFormat


def recogniser_of(model: MTLFace) -> nn.Module:
    """Return the parts of ``model`` that the released recogniser holds, as one module."""
    return nn.ModuleDict({"encoder": model.encoder, "decomposition": model.decomposition, "embedding": model.embedding})


RECOGNISER_2021 = ReleasedFormat(
    "the recogniser of the authors' CVPR 2021 training code",
    rules=(
        *under("encoder.", BACKBONE_2021_RULES),
        *under("embedding.", EMBEDDING_2021_RULES),
        *under("decomposition.", tuple((rf"fsm\.{pattern}", name) for pattern, name in DECOMPOSITION_RULES)),
    ),
    convert=pointwise_to_linear,
)
"""For what :func:`recogniser_of` gives of an ``MTLFace.code2021()``."""
