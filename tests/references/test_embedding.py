from __future__ import annotations

import torch

from facemtl.layers.embedding import EmbeddingHead
from tests.cases import randomise


def test_embedding_equals_loops_and_passes_gradcheck() -> None:
    head = randomise(EmbeddingHead(2, (3, 2), dimension=4).double()).eval()
    maps = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    first, last = head.input_norm, head.output_norm
    want = torch.empty(2, 4, dtype=torch.float64)
    for n in range(2):
        for d in range(4):
            total = head.linear.bias[d].clone()
            for c in range(2):
                for row in range(3):
                    for column in range(2):
                        value = (maps[n, c, row, column] - first.running_mean[c]) / (first.running_var[c] + 1e-5).sqrt()
                        weight = head.linear.weight[d, c * 6 + row * 2 + column]
                        total = total + weight * (value * first.weight[c] + first.bias[c])
            value = (total - last.running_mean[d]) / (last.running_var[d] + 1e-5).sqrt()
            want[n, d] = value * last.weight[d] + last.bias[d]
    torch.testing.assert_close(head(maps), want, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(head, (maps,))
