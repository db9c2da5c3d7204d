from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from facemtl._core.checks import ShapeError, value_checks
from facemtl.heads.adaptive import AdaFace, MagFace
from facemtl.heads.combined import CombinedMargin
from facemtl.heads.curricular import CurricularFace
from facemtl.heads.margin import ArcFace, CosFace

HEADS = [CosFace, ArcFace, CombinedMargin, AdaFace, MagFace, CurricularFace]
every_head = pytest.mark.parametrize("make", HEADS, ids=lambda head: head.__name__)
both = pytest.mark.parametrize("method", ["forward", "logits"])
LABELS = torch.tensor([0, 2, 4])


@every_head
@both
def test_shapes_and_dtypes(make: type[nn.Module], method: str) -> None:
    head = make(6, 5)
    call, where = getattr(head, method), rf"{make.__name__}\.{method}: "
    with pytest.raises(ShapeError, match=where + r"'embeddings' must have dimension = 6 on axis 1, got shape \(3, 7\)"):
        call(torch.randn(3, 7), LABELS)
    with pytest.raises(ShapeError, match=r"\(batch, dimension\), got \(6,\). Add a batch axis with embeddings.unsqu"):
        call(torch.randn(6), LABELS)
    with pytest.raises(TypeError, match=where + r"'embeddings' must have a floating-point dtype, got torch.uint8"):
        call(torch.zeros(3, 6, dtype=torch.uint8), LABELS)
    with pytest.raises(ShapeError, match=where + r"'labels' must have shape \(batch,\), got \(3, 1\). Call labels.squ"):
        call(torch.randn(3, 6), LABELS.unsqueeze(1))
    with pytest.raises(ShapeError, match=where + r"'labels' must have batch = 4 on axis 0, got shape \(3,\)"):
        call(torch.randn(4, 6), LABELS)
    with pytest.raises(TypeError, match=where + r"'labels' must have dtype int64 or int32, got torch.float32"):
        call(torch.randn(3, 6), LABELS.float())


@every_head
@both
@pytest.mark.parametrize("label", [-1, 5, 300])
def test_labels_out_of_range(make: type[nn.Module], method: str, label: int) -> None:
    labels = torch.tensor([0, label, 4])
    message = (
        rf"{make.__name__}.{method}: 'labels' must lie in \[0, num_identities\) = \[0, 5\); got {label} at index 1"
    )
    with pytest.raises(ValueError, match=message):
        getattr(make(6, 5), method)(torch.randn(3, 6), labels)


@every_head
@both
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_embeddings_that_are_not_finite(make: type[nn.Module], method: str, value: float) -> None:
    embeddings = torch.randn(3, 6)
    embeddings[1, 4] = value
    message = rf"{make.__name__}.{method}: 'embeddings' must be finite; got {value} at index \(1, 4\)"
    with pytest.raises(ValueError, match=message):
        getattr(make(6, 5), method)(embeddings, LABELS)


@pytest.mark.parametrize("lean", [False, True])
def test_unchecked_nan_stays_in_the_loss(lean: bool) -> None:
    embeddings = torch.full((3, 6), float("nan"), requires_grad=True)
    head = CosFace(6, 5, lean=lean)
    with value_checks("never"):
        loss = head(embeddings, LABELS)
    loss.backward()
    assert bool(loss.isnan())
    assert bool(head.weight.grad.isnan().any())


@every_head
def test_options_of_every_head(make: Callable[..., nn.Module]) -> None:
    name = make.__name__
    with pytest.raises(ValueError, match=rf"{name}: 'dimension' must be at least 1, got 0"):
        make(0, 5)
    with pytest.raises(ValueError, match=rf"{name}: 'num_identities' must be at least 2, got 1"):
        make(6, 1)
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=rf"{name}: 'scale' must be positive and finite, got {scale}"):
            make(6, 5, scale=scale)
    with pytest.raises(ValueError, match=r"reduction must be 'mean', 'sum' or 'none', got 'average'"):
        make(6, 5)(torch.randn(3, 6), LABELS, reduction="average")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (CosFace, {"margin": -0.1}, r"CosFace: 'margin' must lie in \[0, 2\], got -0.1"),
        (ArcFace, {"margin": 4.0}, r"ArcFace: 'margin' must lie in \[0, 3.142\], got 4.0"),
        (ArcFace, {"margin": float("nan")}, r"ArcFace: 'margin' must lie in \[0, 3.142\], got nan"),
        (ArcFace, {"past_pi": "clip"}, r"ArcFace: 'past_pi' must be 'linear', 'fold' or 'wrap', got 'clip'"),
        (CombinedMargin, {"multiplier": 0.5}, r"CombinedMargin: 'multiplier' must lie in \[1, 8\], got 0.5"),
        (CombinedMargin, {"angle": -1.0}, r"CombinedMargin: 'angle' must lie in \[0, 3.142\], got -1.0"),
        (CombinedMargin, {"cosine": 2.5}, r"CombinedMargin: 'cosine' must lie in \[0, 2\], got 2.5"),
        (CombinedMargin, {"past_pi": "linear"}, r"CombinedMargin: 'past_pi' must be 'fold' or 'wrap', got 'linear'"),
        (AdaFace, {"margin": 2.0}, r"AdaFace: 'margin' must lie in \[0, 1.5\], got 2.0"),
        (AdaFace, {"concentration": 0.0}, r"AdaFace: 'concentration' must be positive and finite, got 0.0"),
        (AdaFace, {"momentum": 1.0}, r"AdaFace: 'momentum' must lie in \[0, 1\), got 1.0"),
        (CurricularFace, {"momentum": -0.5}, r"CurricularFace: 'momentum' must lie in \[0, 1\), got -0.5"),
        (CurricularFace, {"margin": 3.5}, r"CurricularFace: 'margin' must lie in \[0, 3.142\], got 3.5"),
        (MagFace, {"margin_range": (0.8, 0.4)}, r"'margin_range' must rise within \[0, π\], got \(0.8, 0.4\)"),
        (MagFace, {"norm_range": (0.0, 9.0)}, r"'norm_range' must rise and be positive, got \(0.0, 9.0\)"),
        (MagFace, {"norm_weight": -1.0}, r"MagFace: 'norm_weight' must lie in \[0, 1e\+06\], got -1.0"),
    ],
)
def test_options_of_one_head(make: Callable[..., nn.Module], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(6, 5, **options)
