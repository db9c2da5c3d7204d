"""The generator of the authors' training code for CVPR 2021: identity conditional module and decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from facemtl.layers.bank_state import from_dense_state
from facemtl.layers.upsample import DecoderLevel
from facemtl.networks.released.conditional import conditional_rules
from facemtl.networks.released.renaming import ReleasedFormat, StateDict

_STEPS = ("norm", "activation", "convolution")


def _level_rules(level: int) -> Iterator[tuple[str, str]]:
    """Rules of one level; its first norm, activation and convolution act on both halves and are split later."""
    released, ours = rf"up_{level + 1}", f"levels.{level}"
    blocks = (("conv", 0, "joined"), ("conv", 3, "joint"), ("conv2", 0, "residual.0"), ("conv2", 3, "residual.1"))
    for sequence, first, block in blocks:
        for offset, step in enumerate(_STEPS):
            yield rf"{released}\.{sequence}\.{first + offset}\.(\w+)", rf"{ours}.{block}.{step}.\1"
    yield rf"{released}\.shortcut\.(\w+)", rf"{ours}.shortcut.\1"


def _split_joined(module: nn.Module, state: StateDict) -> StateDict:
    """Split what acts on the concatenation [upsampled | skip] into the two halves that we keep apart."""
    split: StateDict = {}
    for key, tensor in state.items():
        level_name, joined, rest = key.partition(".joined.")
        if not joined:
            split[key] = tensor
            continue
        level = cast(DecoderLevel, module.get_submodule(level_name))
        features, skip = f"{level_name}.features.{rest}", f"{level_name}.skip.{rest}"
        if rest == "convolution.bias":
            split[key] = tensor
        elif rest == "norm.num_batches_tracked":
            split[features], split[skip] = tensor, tensor
        else:
            axis = 1 if rest == "convolution.weight" else 0
            split[features], split[skip] = tensor.tensor_split([level.channels], dim=axis)
    return split


def _move_biases_into_means(state: StateDict) -> StateDict:
    """Move the bias of each convolution that a batch norm follows into the norm's mean: conv + b - m = conv - (m - b).

    A bias that does not fit stays, and one that is missing takes the mean with it, so that loading reports them.
    """
    state = dict(state)
    for level in range(4):
        for block, next_block in (("joined", "joint"), ("residual.0", "residual.1")):
            bias_key = f"levels.{level}.{block}.convolution.bias"
            mean_key = f"levels.{level}.{next_block}.norm.running_mean"
            bias, mean = state.get(bias_key), state.pop(mean_key, None)
            if bias is not None and mean is not None:
                if bias.shape == mean.shape:
                    del state[bias_key]
                    mean = mean - bias
                state[mean_key] = mean
    return state


def _convert(module: nn.Module, state: StateDict) -> StateDict:
    return from_dense_state(module, _move_biases_into_means(_split_joined(module, state)))


GENERATOR_2021 = ReleasedFormat(
    name="the generator of the authors' CVPR 2021 training code",
    rules=(
        *(rule for level in range(4) for rule in _level_rules(level)),
        (r"conv3\.(weight|bias)", r"output.\1"),
        *conditional_rules("condition."),
    ),
    convert=_convert,
)
"""For an ``AgingGenerator.code2021()``."""
