from __future__ import annotations

from functools import partial

from facemtl.heads.sharded import ShardedArcFace, ShardedCosFace
from tests.cases import Case
from tests.contract.cases_margin import DIMENSION, IDENTITIES, inputs

CASES = [
    Case("ShardedCosFace", partial(ShardedCosFace, DIMENSION, IDENTITIES), inputs),
    Case("ShardedCosFace lean", partial(ShardedCosFace, DIMENSION, IDENTITIES, lean=True), inputs),
    # inductor draws other random numbers than eager mode
    Case(
        "ShardedCosFace sampled",
        partial(ShardedCosFace, DIMENSION, 3 * IDENTITIES, sample_fraction=0.5),
        inputs,
        compiler="aot_eager",
    ),
    Case("ShardedArcFace", partial(ShardedArcFace, DIMENSION, IDENTITIES), inputs),
]
