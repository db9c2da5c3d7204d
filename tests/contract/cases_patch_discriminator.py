from __future__ import annotations

from collections.abc import Callable

import torch

from facemtl.networks.patch_discriminator import PatchDiscriminator
from tests.cases import Case


def _inputs(size: int) -> Callable[[torch.Generator, int], tuple[torch.Tensor, torch.Tensor]]:
    def inputs(generator: torch.Generator, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn(batch, 3, size, size + 5, generator=generator)
        return images, torch.randint(0, 7, (batch,), generator=generator)

    return inputs


CASES = [
    Case("PatchDiscriminator", lambda **options: PatchDiscriminator(width=4, **options), _inputs(32)),
    Case("PatchDiscriminator-code2021", lambda **options: PatchDiscriminator.code2021(width=4, **options), _inputs(48)),
]
