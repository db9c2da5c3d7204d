"""Load weights that others released: find the format by the keys, then load wholly or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facemtl.heads.age import AgeHead
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.decomposition import AttentionFeatureDecomposition
from facemtl.networks.aging_generator import AgingGenerator
from facemtl.networks.iresnet import IRResNet
from facemtl.networks.mtlface import MTLFace
from facemtl.networks.patch_discriminator import PatchDiscriminator
from facemtl.networks.released.age_head import AGE_HEAD_2021
from facemtl.networks.released.conditional import CONDITIONAL_2021, CONDITIONAL_2022
from facemtl.networks.released.decomposition import DECOMPOSITION_2021
from facemtl.networks.released.discriminator import DISCRIMINATOR_2021
from facemtl.networks.released.encoder import ENCODER_2021, ENCODER_2022
from facemtl.networks.released.generator import GENERATOR_2021
from facemtl.networks.released.insightface import INSIGHTFACE_IRESNET
from facemtl.networks.released.recogniser import RECOGNISER_2021, recogniser_of
from facemtl.networks.released.renaming import ReleasedFormat, ReleasedWeightsError, load_released, strip_wrappers

FORMATS: dict[type[nn.Module], tuple[ReleasedFormat, ...]] = {
    IRResNet: (ENCODER_2021, ENCODER_2022, INSIGHTFACE_IRESNET),
    AttentionFeatureDecomposition: (DECOMPOSITION_2021,),
    AgeHead: (AGE_HEAD_2021,),
    IdentityConditionalModule: (CONDITIONAL_2021, CONDITIONAL_2022),
    AgingGenerator: (GENERATOR_2021,),
    PatchDiscriminator: (DISCRIMINATOR_2021,),
}
"""The formats that each network can be loaded from."""


def load_released_weights(module: nn.Module, weights: Mapping[str, Any] | str | os.PathLike[str]) -> str:
    """Load weights that the MTLFace authors or insightface released into a network of ours.

    The format is found by the keys. Of an :class:`~facemtl.MTLFace` the part that the weights are for is loaded
    (recogniser, age head, generator or discriminator), so one call for each released file fills it. Dense filter banks
    are cut to the filters that act.

    Args:
        module: :class:`~facemtl.IRResNet`, :class:`~facemtl.AttentionFeatureDecomposition`, :class:`~facemtl.AgeHead`,
            :class:`~facemtl.IdentityConditionalModule`, :class:`~facemtl.AgingGenerator`,
            :class:`~facemtl.PatchDiscriminator` or :class:`~facemtl.MTLFace`, built as the released network was:
            ``code2021`` for the CVPR training code, ``journal2022`` for the journal's conditional module,
            ``IRResNet(shortcut="projection")`` for insightface.
        weights: A state dict, or a file: ``.safetensors``, or what torch saved (read with ``weights_only=True``, so it
            cannot run code). A state dict under the key ``state_dict`` is found.

    Returns:
        The name of the format that was recognised.

    Raises:
        TypeError: If nothing is known for this kind of module.
        ReleasedWeightsError: If any key is unknown, missing or of the wrong shape: all of them are listed, and
            ``module`` is unchanged.

    Example:
        >>> import torch
        >>> encoder = IRResNet(18, width=8, embedding_dimension=16, shortcut="projection")
        >>> load_released_weights(encoder, {"conv1.weight": torch.zeros(8, 3, 3, 3)})
        Traceback (most recent call last):
        ...
        facemtl.networks.released.renaming.ReleasedWeightsError: IRResNet: the state dict does not fit ...
    """
    state = _read(weights)
    candidates = list(_candidates(module))
    if not candidates:
        known = ", ".join(kind.__name__ for kind in (*FORMATS, MTLFace))
        raise TypeError(f"load_released_weights: nothing is known for {type(module).__name__}. Pass one of {known}.")
    part, source = max(candidates, key=lambda candidate: _matching_keys(candidate[1], state))
    if _matching_keys(source, state) == 0:
        names = "; ".join(source.name for _, source in candidates)
        keys = ", ".join(list(state)[:5]) or "none"
        raise ReleasedWeightsError(
            f"load_released_weights: no key of the weights is known. Known formats: {names}. Keys begin: {keys}."
        )
    load_released(part, state, source)
    return source.name


def _candidates(module: nn.Module) -> Iterator[tuple[nn.Module, ReleasedFormat]]:
    if isinstance(module, MTLFace):
        yield recogniser_of(module), RECOGNISER_2021
        for part in (module.age_head, module.generator, module.discriminator):
            if part is not None:
                yield from _candidates(part)
    for kind, formats in FORMATS.items():
        if isinstance(module, kind):
            yield from ((module, source) for source in formats)


def _matching_keys(source: ReleasedFormat, state: Mapping[str, Tensor]) -> int:
    return len(source.rename(state)[0])


def _read(weights: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Tensor]:
    if isinstance(weights, Mapping):
        state: Any = weights
    elif os.fspath(weights).endswith(".safetensors"):
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ReleasedWeightsError("load_released_weights: 'weights' hold no state dict (names to tensors).")
    return {strip_wrappers(key): value for key, value in state.items()}
