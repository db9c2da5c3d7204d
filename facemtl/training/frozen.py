"""Networks that look but do not learn: eval mode and no gradient of the weights, for the length of a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from facemtl.layers.evaluating import evaluating
from facemtl.layers.inference import fold_batch_norms
from facemtl.networks.mtlface import MTLFace


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, and no gradient for the parameters that its forward passes read.

    Gradients still flow *through* the modules, to their inputs: that is how a generator learns from a discriminator or
    an age head. Since autograd decides in the forward pass whose gradients it will need, ``backward`` may be called
    after the block. Mode and ``requires_grad`` of everything are afterwards what they were.

    Args:
        *modules: Any modules.

    Example:
        >>> import torch
        >>> judge, face = nn.Linear(3, 1), torch.ones(2, 3, requires_grad=True)
        >>> with frozen(judge):
        ...     score = judge(face).sum()
        >>> score.backward()
        >>> judge.weight.grad is None, face.grad.shape
        (True, torch.Size([2, 3]))
    """
    learning = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        with evaluating(*modules):
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def frozen_recogniser(model: MTLFace) -> MTLFace:
    """Return a copy of the recognising half of ``model``, frozen, its batch norms folded into the convolutions.

    For the phase in which only the synthesis learns: the same outputs up to rounding, in less time, as a norm reads and
    writes a whole map.

    Args:
        model: Not changed.

    Returns:
        A model without adversary, generator and discriminator, in eval mode; later changes of ``model`` do not reach
        it.

    Example:
        >>> import torch
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> recogniser = frozen_recogniser(model)
        >>> any(parameter.requires_grad for parameter in recogniser.parameters())
        False
    """
    return MTLFace(
        fold_batch_norms(model.encoder),
        fold_batch_norms(model.decomposition),
        fold_batch_norms(model.embedding),
        fold_batch_norms(model.age_head),
        age_groups=model.age_groups,
    ).eval()


def recognition_part(model: MTLFace) -> MTLFace:
    """Return a model of the same modules without generator and discriminator: what the recognition losses train.

    Shared, not copied. Wrapped for several processes it has no parameter without a gradient, which
    ``DistributedDataParallel`` wants.

    Args:
        model: With an adversary.

    Example:
        >>> model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32)
        >>> part = recognition_part(model)
        >>> part.encoder is model.encoder, part.generator is None
        (True, True)
    """
    return MTLFace(
        model.encoder,
        model.decomposition,
        model.embedding,
        model.age_head,
        adversary=model.adversary,
        age_groups=model.age_groups,
    )
