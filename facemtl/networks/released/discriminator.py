"""The patch discriminator of the authors' training code for CVPR 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl.networks.released.renaming import ReleasedFormat, StateDict

_NORMALISED = range(1, 5)
"""Which of the six convolutions have spectral norm in the released code."""


def leading_singular_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the left and right singular vectors of the largest singular value, as power iteration converges to.

    Args:
        weight: Of any rank; its first axis makes the rows of the matrix.

    Returns:
        Unit vectors ``(rows,)`` and ``(columns,)`` with ``left @ matrix @ right`` the largest singular value.

    Example:
        >>> import torch
        >>> left, right = leading_singular_vectors(torch.tensor([[0.0, 3.0], [1.0, 0.0]]))
        >>> left.abs().tolist(), float(left @ torch.tensor([[0.0, 3.0], [1.0, 0.0]]) @ right)
        ([1.0, 0.0], 3.0)
    """
    matrix = weight.detach().flatten(1).double()
    left = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
    right = nn.functional.normalize(matrix.T @ left, dim=0)
    return left.to(weight.dtype), right.to(weight.dtype)


def _complete_singular_vectors(module: nn.Module, state: StateDict) -> StateDict:
    """Add the singular vectors where the released state dict lacks one of them."""
    state = dict(state)
    for index in _NORMALISED:
        prefix = f"convolutions.{index}.parametrizations.weight"
        names = f"{prefix}.0._u", f"{prefix}.0._v"
        weight = state.get(f"{prefix}.original")
        if weight is not None and not all(name in state for name in names):
            state.update(zip(names, leading_singular_vectors(weight), strict=True))
    return state


DISCRIMINATOR_2021 = ReleasedFormat(
    name="the patch discriminator of the authors' CVPR 2021 training code",
    rules=(
        (r"conv1\.(weight|bias)", r"convolutions.0.\1"),
        *(
            rule
            for index in _NORMALISED
            for rule in (
                (rf"main\.{2 * index - 2}\.bias", rf"convolutions.{index}.bias"),
                (rf"main\.{2 * index - 2}\.weight_orig", rf"convolutions.{index}.parametrizations.weight.original"),
                (rf"main\.{2 * index - 2}\.weight_([uv])", rf"convolutions.{index}.parametrizations.weight.0._\1"),
            )
        ),
        (r"main\.8\.(weight|bias)", r"convolutions.5.\1"),
    ),
    convert=_complete_singular_vectors,
)
"""For ``PatchDiscriminator.code2021()``; singular vectors that are not stored are computed."""
