from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.heads.cross_entropy import cosine_cross_entropy

LABELS = torch.tensor([0, 2, 4])


def test_weight_labels_and_scale() -> None:
    with pytest.raises(ShapeError, match=r"'weight' must have shape \(identities, dimension\), got \(5,\)"):
        cosine_cross_entropy(torch.randn(3, 6), torch.randn(5), LABELS)
    with pytest.raises(TypeError, match=r"'weight' must have a floating-point dtype, got torch.int64"):
        cosine_cross_entropy(torch.randn(3, 6), torch.ones(5, 6, dtype=torch.long), LABELS)
    with pytest.raises(ValueError, match="'num_identities' must be at least 2, got 1"):
        cosine_cross_entropy(torch.randn(3, 6), torch.randn(1, 6), LABELS)
    with pytest.raises(ShapeError, match=r"'embeddings' must have dimension = 6 on axis 1, got shape \(3, 5\)"):
        cosine_cross_entropy(torch.randn(3, 5), torch.randn(5, 6), LABELS)
    with pytest.raises(ValueError, match=r"'labels' must lie in \[0, num_identities\) = \[0, 4\); got 4 at index 2"):
        cosine_cross_entropy(torch.randn(3, 6), torch.randn(4, 6), LABELS, lean=True)
    with pytest.raises(ValueError, match="'scale' must be positive and finite, got 0"):
        cosine_cross_entropy(torch.randn(3, 6), torch.randn(5, 6), LABELS, scale=0)


def test_the_lean_way_refuses_a_second_derivative_and_the_plain_way_gives_it() -> None:
    embeddings, weight = torch.randn(3, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        cosine_cross_entropy(embeddings, weight, LABELS, lean=True), embeddings, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.square().sum().backward()
    (gradient,) = torch.autograd.grad(
        cosine_cross_entropy(embeddings, weight, LABELS, lean=False), embeddings, create_graph=True
    )
    gradient.square().sum().backward()
    assert float(weight.grad.abs().sum()) > 0.0
