from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.layers.embedding import EmbeddingHead
from tests.cases import randomise


@given(
    batch=st.integers(0, 3),
    channels=st.integers(1, 5),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    dimension=st.integers(1, 6),
    seed=st.integers(0, 2**16),
    training=st.booleans(),
)
def test_any_map_gives_an_embedding_for_each_row(
    batch: int, channels: int, height: int, width: int, dimension: int, seed: int, training: bool
) -> None:
    head = EmbeddingHead(channels, (height, width), dimension=dimension).train(training)
    randomise(head, seed)
    maps = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))
    output = head(maps)
    assert output.shape == (batch, dimension)
    assert output.isfinite().all()


@given(seed=st.integers(0, 2**16))
def test_batch_permutation_commutes_in_train_mode_without_dropout(seed: int) -> None:
    head = randomise(EmbeddingHead(3, 2, dimension=4, dropout=0.0).double(), seed).train()
    maps = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(head(maps[order]), head(maps)[order], rtol=1e-9, atol=1e-9)


def test_dropout_acts_in_train_mode_only() -> None:
    head = EmbeddingHead(4, 3, dimension=6, dropout=0.5)
    maps = torch.randn(4, 4, 3, 3)
    assert not torch.equal(head.train()(maps), head(maps))
    assert torch.equal(head.eval()(maps), head(maps))
