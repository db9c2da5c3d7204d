from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.heads.adaptive import AdaFace, MagFace
from facemtl.heads.angular import angular_margin
from facemtl.heads.combined import CombinedMargin
from facemtl.heads.cosine import EMBEDDING_FLOOR, WEIGHT_FLOOR
from facemtl.heads.curricular import CurricularFace
from facemtl.heads.margin import ArcFace, CosFace

HEADS = [CosFace, ArcFace, CombinedMargin, AdaFace, MagFace, CurricularFace]
seeds = st.integers(0, 2**16)
batches = st.integers(0, 6)
identities = st.integers(2, 9)
dimensions = st.integers(1, 7)
every_head = pytest.mark.parametrize("make", HEADS, ids=lambda head: head.__name__)


def setting(
    make: Callable[..., nn.Module], batch: int, num: int, dimension: int, seed: int, **options: object
) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    head = make(dimension, num, dtype=torch.float64, **options).eval()
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator, dtype=torch.float64))
    embeddings = 9.0 * torch.randn(batch, dimension, generator=generator, dtype=torch.float64)
    return head, embeddings, torch.randint(num, (batch,), generator=generator)


@every_head
@given(batch=batches, num=identities, dimension=dimensions, seed=seeds)
def test_the_margin_moves_only_the_target_logit(
    make: type[nn.Module], batch: int, num: int, dimension: int, seed: int
) -> None:
    head, embeddings, labels = setting(make, batch, num, dimension, seed)
    if make is CurricularFace:  # its hard negatives move too, unless t + cos is 1
        head = ArcFace(dimension, num, dtype=torch.float64)
    plain, moved = head.logits(embeddings), head.logits(embeddings, labels)
    own = F.one_hot(labels, num).bool()
    assert torch.equal(plain[~own], moved[~own])
    if make is not AdaFace:  # which eases samples of good quality
        assert bool((moved[own] <= plain[own] + 1e-9).all())


@every_head
@pytest.mark.parametrize("lean", [False, True])
@given(batch=batches, num=identities, dimension=dimensions, seed=seeds)
def test_permuting_the_batch_permutes_the_losses(
    make: type[nn.Module], lean: bool, batch: int, num: int, dimension: int, seed: int
) -> None:
    head, embeddings, labels = setting(make, batch, num, dimension, seed, lean=lean)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    losses = head(embeddings, labels, reduction="none")
    torch.testing.assert_close(head(embeddings[order], labels[order], reduction="none"), losses[order])
    torch.testing.assert_close(head(embeddings, labels, reduction="sum"), losses.sum())
    torch.testing.assert_close(head(embeddings, labels.int()), losses.sum() / max(batch, 1))


@every_head
@pytest.mark.parametrize("lean", [False, True])
@given(batch=st.integers(1, 6), num=identities, dimension=dimensions, seed=seeds)
def test_the_loss_is_the_cross_entropy_of_the_logits(
    make: type[nn.Module], lean: bool, batch: int, num: int, dimension: int, seed: int
) -> None:
    options = {"norm_weight": 0.0} if make is MagFace else {}
    head, embeddings, labels = setting(make, batch, num, dimension, seed, lean=lean, **options)
    want = F.cross_entropy(head.logits(embeddings, labels), labels)
    # At a cosine of 1, which one dimension always has, a rounding of it is its root in the angle.
    torch.testing.assert_close(head(embeddings, labels), want, rtol=1e-9, atol=1e-9 if dimension > 1 else 1e-5)


@given(batch=st.integers(1, 6), num=identities, dimension=dimensions, seed=seeds)
def test_without_margin_cosface_and_arcface_are_a_scaled_softmax(
    batch: int, num: int, dimension: int, seed: int
) -> None:
    for make in (CosFace, ArcFace):
        head, embeddings, labels = setting(make, batch, num, dimension, seed, margin=0.0)
        cosines = F.cosine_similarity(embeddings.unsqueeze(1), head.weight.unsqueeze(0), dim=2)
        torch.testing.assert_close(head(embeddings, labels), F.cross_entropy(64.0 * cosines, labels))


@given(num=identities, dimension=dimensions, seed=seeds, factor=st.floats(0.5, 8.0))
def test_lengths_of_embeddings_and_weights_do_not_matter(num: int, dimension: int, seed: int, factor: float) -> None:
    head, embeddings, labels = setting(ArcFace, 4, num, dimension, seed)
    want = head(embeddings, labels)
    with torch.no_grad():
        head.weight.mul_(factor)
    torch.testing.assert_close(head(embeddings / factor, labels), want)


@every_head
@pytest.mark.parametrize("lean", [False, True])
@given(batch=st.integers(1, 4), seed=seeds)
def test_a_zero_embedding_gets_a_finite_loss_and_a_bounded_gradient(
    make: type[nn.Module], lean: bool, batch: int, seed: int
) -> None:
    head, embeddings, labels = setting(make, batch, 5, 4, seed, lean=lean)
    embeddings = embeddings.zero_().requires_grad_()
    loss = head.train()(embeddings, labels, reduction="sum")
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(head.weight.grad.isfinite().all())
    assert float(embeddings.grad.norm(dim=1).max()) <= 64.0 * 128.0 * 2.0


@every_head
@given(size=st.sampled_from([1e-3, 1.0, 30.0, 1e4]), seed=seeds)
def test_half_precision_embeddings_under_autocast(make: type[nn.Module], size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = make(6, 8)
    embeddings = (size * torch.randn(5, 6, generator=generator)).half().requires_grad_()
    labels = torch.randint(8, (5,), generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(embeddings, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head.eval()(embeddings.float(), labels), rtol=1e-6, atol=1e-6)
    loss.backward()
    assert bool(embeddings.grad.isfinite().all())


@given(
    margin=st.floats(0.0, 3.1),
    multiplier=st.floats(1.0, 4.0),
    first=st.floats(-1.0, 1.0),
    second=st.floats(-1.0, 1.0),
)
def test_folded_margins_never_reward_a_larger_angle(
    margin: float, multiplier: float, first: float, second: float
) -> None:
    low, high = sorted((first, second))
    values = angular_margin(
        torch.tensor([low, high], dtype=torch.float64), margin, multiplier=multiplier, past_pi="fold"
    )
    assert float(values[0]) <= float(values[1]) + 1e-9
    assert float(values[1]) <= high + 1e-9


@given(margin=st.floats(0.0, math.pi), cosine=st.floats(-1.0, 1.0))
def test_linear_continuation_only_lowers(margin: float, cosine: float) -> None:
    value = angular_margin(torch.tensor([cosine], dtype=torch.float64), margin)
    assert float(value) <= cosine + 1e-9


@given(batch=st.integers(0, 1), seed=seeds)
def test_statistics_are_kept_where_a_batch_has_none(batch: int, seed: int) -> None:
    head, embeddings, labels = setting(AdaFace, batch, 5, 4, seed)
    head.train()(embeddings, labels).backward()
    assert (float(head.norm_mean), float(head.norm_std)) == (20.0, 100.0)
    head, embeddings, labels = setting(CurricularFace, batch, 5, 4, seed)
    head.train()(embeddings, labels).backward()
    assert bool(head.hardness.isfinite())
    assert batch == 1 or float(head.hardness) == 0.0


@every_head
@given(batch=batches, num=identities, dimension=dimensions, seed=seeds)
def test_logits_without_labels_are_scaled_cosines_in_train_mode_too(
    make: type[nn.Module], batch: int, num: int, dimension: int, seed: int
) -> None:
    head, embeddings, _ = setting(make, batch, num, dimension, seed, scale=16.0)
    assume(bool((embeddings.norm(dim=1) > EMBEDDING_FLOOR).all()))  # shorter ones are divided by the floor
    assume(bool((head.weight.norm(dim=1) > WEIGHT_FLOOR).all()))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    logits = head.train().logits(embeddings)
    want = F.cosine_similarity(embeddings.unsqueeze(1), head.weight.unsqueeze(0), dim=2)
    torch.testing.assert_close(logits, 16.0 * want)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert repr(head).startswith(f"{make.__name__}({dimension}, {num}, scale=16")
