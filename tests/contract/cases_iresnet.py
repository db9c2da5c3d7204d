from __future__ import annotations

import torch

from facemtl.layers.ir_unit import IRUnit, Projection, Stem, Subsample
from facemtl.layers.squeeze_excitation import SqueezeExcitation
from facemtl.networks.iresnet import IRBackbone, IRResNet
from tests.cases import Case


def maps(channels: int, side: int = 6):
    return lambda generator, batch: (torch.randn(batch, channels, side, side, generator=generator),)


CASES = [
    Case("IRBackbone", lambda **factory: IRBackbone(18, width=4, **factory), maps(3, 32), compiler="aot_eager"),
    Case(
        "IRResNet/se-projection",
        lambda **factory: IRResNet(
            18,
            width=4,
            image_size=32,
            embedding_dimension=8,
            squeeze_excitation=True,
            shortcut="projection",
            dropout=0.0,  # compiled dropout draws other masks
            **factory,
        ),
        maps(3, 32),
        compiler="aot_eager",
        autocast_tolerance=0.2,  # twenty layers of random, untrained weights on eight samples of statistics
    ),
    Case("IRUnit", lambda **factory: IRUnit(4, 8, stride=2, squeeze_excitation=True, **factory), maps(4)),
    Case("IRUnit/same", lambda **factory: IRUnit(4, 4, **factory), maps(4)),
    Case("Stem", lambda **factory: Stem(4, **factory), maps(3)),
    Case("Projection", lambda **factory: Projection(4, 8, stride=2, **factory), maps(4)),
    Case("Subsample", lambda: Subsample(2), maps(4), factory_kwargs=False),
    Case("SqueezeExcitation", lambda **factory: SqueezeExcitation(8, reduction=2, **factory), maps(8)),
]
