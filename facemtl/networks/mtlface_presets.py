"""The parts of MTLFace as its sources describe them, at any width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, cast, get_args

import torch
from torch import nn

from facemtl.heads.age import AgeHead
from facemtl.layers.age import AgeGroups
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.decomposition import AttentionFeatureDecomposition
from facemtl.layers.embedding import EmbeddingHead
from facemtl.networks.aging_generator import AgingGenerator
from facemtl.networks.iresnet import IRBackbone, map_size_of
from facemtl.networks.patch_discriminator import PatchDiscriminator
from facemtl.networks.saved_model import SavedModelError

Preset = Literal["paper2021", "code2021"]


class MTLFaceOptions(TypedDict, total=False):
    """Options of :meth:`facemtl.MTLFace.paper2021` and :meth:`facemtl.MTLFace.code2021`.

    Each part of the model may be given instead of built. A given encoder must have attributes ``channels`` (of its
    map) and ``level_channels`` (at 1/2, 1/4 and 1/8).
    """

    depth: int
    """Layers of the IR encoder, 18, 34, 50 (default), 100 or 152."""
    width: int
    """Channels of the stem, from which all widths follow; 64 by default, 16 for a quarter-width model."""
    image_size: int | tuple[int, int]
    """Side, or height and width, of the aligned faces, multiples of 16; 112 by default."""
    embedding_dimension: int
    """Length of an embedding; 512 by default."""
    discriminator_preset: Preset
    """Whose discriminator it is, ``"paper2021"`` or ``"code2021"``; that of the model's own preset by default. The
    released one, without spectral norm on its first convolution, learns faster in a short run."""
    age_groups: AgeGroups
    """Age groups; the paper's seven by default."""
    encoder: nn.Module
    decomposition: nn.Module
    embedding: nn.Module
    age_head: nn.Module
    adversary: nn.Module
    generator: nn.Module
    discriminator: nn.Module
    device: torch.device | str | None
    """Where parameters are made."""
    dtype: torch.dtype | None
    """Dtype of parameters."""


def build_parts(preset: Preset, options: MTLFaceOptions) -> dict[str, Any]:
    """Return the arguments of :class:`MTLFace`: each part given in ``options``, or built by ``preset``."""
    unknown = set(options) - set(MTLFaceOptions.__annotations__)
    if unknown:
        known = ", ".join(MTLFaceOptions.__annotations__)
        raise TypeError(f"MTLFace.{preset}: unknown option {sorted(unknown)[0]!r}. Options are {known}.")
    factory: dict[str, Any] = {"device": options.get("device"), "dtype": options.get("dtype")}
    width = options.get("width", 64)
    groups = options.get("age_groups", AgeGroups())
    map_size = map_size_of("MTLFace", options.get("image_size", 112))
    encoder: Any = (
        options["encoder"] if "encoder" in options else IRBackbone(options.get("depth", 50), width=width, **factory)
    )
    channels = encoder.channels

    def age_head() -> AgeHead:
        return AgeHead(channels, map_size, hidden=8 * width, num_groups=groups.num_groups, **factory)

    builders: dict[str, Callable[[], nn.Module]] = {
        "decomposition": lambda: AttentionFeatureDecomposition(channels, **factory),
        "embedding": lambda: EmbeddingHead(
            channels, map_size, dimension=options.get("embedding_dimension", 512), **factory
        ),
        "age_head": age_head,
        "adversary": age_head,
        "generator": lambda: _generator(preset, encoder, width=width, num_groups=groups.num_groups, factory=factory),
        "discriminator": lambda: _discriminator(
            options.get("discriminator_preset", preset), width=width, num_groups=groups.num_groups, factory=factory
        ),
    }
    given: dict[str, Any] = dict(options)
    parts = {name: given[name] if name in given else build() for name, build in builders.items()}
    return {"encoder": encoder, "age_groups": groups, **parts}


_NUMBERS = ("depth", "width", "image_size", "embedding_dimension", "discriminator_preset")
_PLACEMENT = ("device", "dtype")  # where and how the parameters lie, which is not what the model is


def recipe_of(preset: Preset, options: MTLFaceOptions) -> dict[str, Any] | None:
    """Return what a config says of a model, from which it is built again; ``None`` if it has parts of the caller's."""
    if set(options) - {*_NUMBERS, *_PLACEMENT, "age_groups"}:
        return None
    numbers = {name: value for name, value in options.items() if name in _NUMBERS}
    edges = list(options.get("age_groups", AgeGroups()).edges)
    return {"preset": preset, "options": {**numbers, "age_group_edges": edges}}


def options_of(where: str, folder: str | Path, config: Mapping[str, Any]) -> tuple[Preset, MTLFaceOptions]:
    """Return preset and options from a config that :func:`recipe_of` wrote."""
    preset, options = config.get("preset"), config.get("options")
    if config.get("model") != "MTLFace" or preset not in get_args(Preset) or not isinstance(options, dict):
        raise SavedModelError(
            f"{where}: {str(folder)!r} holds no MTLFace of {' or '.join(get_args(Preset))}: {config}."
        )
    unknown = set(options) - {*_NUMBERS, "age_group_edges"}
    if unknown:
        raise SavedModelError(f"{where}: unknown option {sorted(unknown)[0]!r} in the config of {str(folder)!r}.")
    given: dict[str, Any] = {name: value for name, value in options.items() if name in _NUMBERS}
    if isinstance(given.get("image_size"), list):
        given["image_size"] = tuple(given["image_size"])
    if "age_group_edges" in options:
        given["age_groups"] = AgeGroups(tuple(options["age_group_edges"]))
    return cast(Preset, preset), cast(MTLFaceOptions, given)


def _generator(preset: Preset, encoder: Any, *, width: int, num_groups: int, factory: dict[str, Any]) -> AgingGenerator:
    channels = (encoder.channels, *tuple(encoder.level_channels)[:-4:-1])
    unit = max(channels[0] // 4, 2)
    widths = (4 * width, 2 * width, width, max(width // 2, 1))
    released = preset == "code2021"
    condition = IdentityConditionalModule.code2021 if released else IdentityConditionalModule.paper2021
    build = AgingGenerator.code2021 if released else AgingGenerator
    return build(
        condition(channels[0], num_groups=num_groups, unit=unit, **factory),
        channels=channels,
        widths=widths,
        **factory,
    )


def _discriminator(preset: Preset, *, width: int, num_groups: int, factory: dict[str, Any]) -> PatchDiscriminator:
    if preset not in get_args(Preset):
        raise ValueError(
            f"MTLFace: 'discriminator_preset' must be one of {', '.join(get_args(Preset))}, got {preset!r}."
        )
    build = PatchDiscriminator.code2021 if preset == "code2021" else PatchDiscriminator
    return build(num_groups, width=width, **factory)
