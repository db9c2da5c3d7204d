"""The released weights of the attention feature decomposition, CVPR and journal alike."""

from __future__ import annotations

from torch import nn

from facemtl.networks.released.renaming import ReleasedFormat, StateDict

DECOMPOSITION_RULES: tuple[tuple[str, str], ...] = (
    (r"channel\.0\.weight", r"attention.channel.squeeze.weight"),
    (r"channel\.2\.weight", r"attention.channel.excite.weight"),
    (r"channel\.3\.(\w+)", r"attention.channel.norm.\1"),
    (r"spatial\.0\.weight", r"attention.spatial.conv.weight"),
    (r"spatial\.1\.(\w+)", r"attention.spatial.norm.\1"),
)
"""Keys of the decomposition alone; put both prefixes before each pair to find it inside a larger network."""


def pointwise_to_linear(module: nn.Module, state: StateDict) -> StateDict:
    """Reshape 1×1 convolutions to the matrices that ``module`` has instead; leave every other tensor as it is."""
    own = module.state_dict()
    return {
        key: tensor.flatten(1) if _is_pointwise(tensor.shape) and key in own and own[key].dim() == 2 else tensor
        for key, tensor in state.items()
    }


def _is_pointwise(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and tuple(shape[2:]) == (1, 1)


DECOMPOSITION_2021 = ReleasedFormat(
    name="the authors' feature decomposition (CVPR 2021)", rules=DECOMPOSITION_RULES, convert=pointwise_to_linear
)
"""For ``AttentionFeatureDecomposition()`` and ``.code2021()``."""

DECOMPOSITION_2022 = ReleasedFormat(
    name="the authors' feature decomposition (journal 2022)", rules=DECOMPOSITION_RULES, convert=pointwise_to_linear
)
"""For ``AttentionFeatureDecomposition.journal2022()``: the same keys, a concatenated pyramid."""
