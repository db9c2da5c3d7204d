"""Copies of networks for inference: eval mode, frozen, batch norms folded away."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar, cast, runtime_checkable

from torch import nn

from facemtl.layers.batch_norm import BatchNorm1d, BatchNorm2d
from facemtl.layers.folding import BatchNorm, fold_after, fold_before

Network = TypeVar("Network", bound=nn.Module)
Dropout = nn.modules.dropout._DropoutNd
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, BatchNorm1d, BatchNorm2d)
"""Exactly these types: a subclass may do more than normalise."""


@runtime_checkable
class Foldable(Protocol):
    """A module that makes its own copy for inference."""

    def for_inference(self) -> nn.Module:
        """Return the copy; the module itself stays as it is."""
        ...


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` for inference, its batch norms folded exactly into the layers beside them.

    Equal to ``module.eval()`` up to rounding, borders of padded convolutions included, for any image size, and faster:
    a norm reads and writes a whole map. Modules with a method ``for_inference`` (all of ours that own batch norms) fold
    themselves, wherever they sit; a `torch.nn.Sequential` is folded as a chain. A module of another kind is copied as
    it is, with those of its parts that can fold themselves folded: only its code says in which order its layers run.

    Args:
        module: Any module; not changed.

    Returns:
        A copy in eval mode whose parameters need no gradient. It cannot be trained further, and its state dict has
        other keys than the original's: save the original.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8))
        >>> folded, images = fold_batch_norms(network), torch.randn(2, 3, 16, 16)
        >>> torch.allclose(folded(images), network.eval()(images), atol=1e-6)
        True
        >>> folded[1]
        Identity()
    """
    if isinstance(module, Foldable):
        return module.for_inference()
    if type(module) is not nn.Sequential:
        return folded_copy(module)
    parts = fold_chain([fold_batch_norms(part) for part in module])
    clone = copy.deepcopy(module, {id(part): part for part in module})
    for name, part in zip(module._modules, parts, strict=True):
        clone._modules[name] = part
    return clone.eval()


def folded_copy(module: Network, *chains: Sequence[str]) -> Network:
    """Return a frozen copy in eval mode, with chains of direct parts folded and foldable parts folded by themselves.

    What a module's ``for_inference`` calls: it alone knows which of its parts run one after the other.

    Args:
        module: The module; not changed.
        *chains: Names of attributes that run one after the other, each on nothing but the output of the one before, and
            whose outputs nobody else reads.

    Returns:
        The copy, of the same class.

    Example:
        >>> class Stem(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        ...     def forward(self, images):
        ...         return self.norm(self.convolution(images))
        ...     def for_inference(self):
        ...         return folded_copy(self, ("convolution", "norm"))
        >>> Stem().for_inference().norm
        Identity()
    """
    copies: dict[int, nn.Module] = {}
    for names in chains:
        parts = [module.get_submodule(name) for name in names]
        copies |= {id(old): new for old, new in zip(parts, fold_chain(parts), strict=True) if new is not old}
    for part in module.children():
        if id(part) not in copies:
            copies[id(part)] = part.for_inference() if isinstance(part, Foldable) else folded_copy(part)
    # deepcopy looks in its memo first: where it finds a part's copy there, it takes that.
    clone = copy.deepcopy(module, cast("dict[int, object]", copies))
    return clone.eval().requires_grad_(False)


def fold_chain(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Fold the batch norms of layers that run one after the other, each on the output of the one before.

    A norm goes into the convolution before it, else into the convolution behind it; round a `torch.nn.Flatten` into the
    linear layer. A norm and a dropout that are gone leave a `torch.nn.Identity`, so that positions stay. What cannot be
    folded (a norm between activations, a norm without running statistics, a layer with hooks or parametrizations,
    layers of other kinds) stays.

    Args:
        layers: The chain; none of them is changed.

    Returns:
        A list of the same length; entries that stayed are the very same modules.

    Example:
        >>> chain = [nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8)]
        >>> [type(layer).__name__ for layer in fold_chain(chain)]
        ['Identity', 'BiasMapConv2d', 'Identity', 'PReLU']
    """
    chain: list[nn.Module] = [nn.Identity() if isinstance(layer, Dropout) else layer for layer in layers]
    for before, place in _neighbours(chain):
        layer, norm = chain[before], chain[place]
        if _is_norm(norm) and (_is_convolution(layer) or (_is_linear(layer) and _follows_flatten(chain, before))):
            chain[before], chain[place] = fold_after(cast(nn.Conv2d, layer), cast(BatchNorm, norm)), nn.Identity()
    for before, place in _neighbours(chain):
        norm, layer = chain[before], chain[place]
        if _is_flatten(norm) and _is_linear(layer):
            before = _previous(chain, before)
            norm = chain[before] if before >= 0 else norm
        elif not _is_convolution(layer):
            continue
        if _is_norm(norm):
            chain[before], chain[place] = nn.Identity(), fold_before(cast(BatchNorm, norm), cast(nn.Conv2d, layer))
    return chain


def _neighbours(chain: list[nn.Module]) -> list[tuple[int, int]]:
    places = [place for place, layer in enumerate(chain) if not isinstance(layer, nn.Identity)]
    return list(itertools.pairwise(places))


def _previous(chain: list[nn.Module], place: int) -> int:
    return max((i for i in range(place) if not isinstance(chain[i], nn.Identity)), default=-1)


def _follows_flatten(chain: list[nn.Module], place: int) -> bool:
    previous = _previous(chain, place)
    return previous >= 0 and _is_flatten(chain[previous])


def _is_flatten(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)


def _is_plain(layer: nn.Module) -> bool:
    return not (layer._forward_hooks or layer._forward_pre_hooks)


def _is_convolution(layer: nn.Module) -> bool:
    return type(layer) is nn.Conv2d and _is_plain(layer)


def _is_linear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and _is_plain(layer)


def _is_norm(layer: nn.Module) -> bool:
    return type(layer) in NORMS and cast(BatchNorm, layer).running_mean is not None and _is_plain(layer)
