"""The one legend of axis names that annotations and error messages share.

==============  ==============================================================
axis            meaning
==============  ==============================================================
``batch``       images, faces or samples handled at once; may be 0
``channels``    feature channels (3 for images: RGB)
``height``      rows, top to bottom
``width``       columns, left to right
``dimension``   length of an embedding
``identities``  people that a margin head tells apart
``ages``        bins of an age distribution (101: 0 to 100 years)
``ranks``       thresholds between ages (100: older than 0, 1, … 99 years)
``groups``      age groups
==============  ==============================================================
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float, Integer
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch 3 height width"]
"""RGB images with pixels in [-1, 1]."""

FeatureMap: TypeAlias = Float[Tensor, "batch channels height width"]
"""A feature map of any number of channels and any size."""

Embeddings: TypeAlias = Float[Tensor, "batch dimension"]
"""Identity embeddings, not necessarily of unit norm."""

IdentityLabels: TypeAlias = Integer[Tensor, " batch"]
"""Identity indices in [0, identities)."""

GroupLabels: TypeAlias = Integer[Tensor, " batch"]
"""Age group indices in [0, groups)."""

AgeLabels: TypeAlias = Float[Tensor, " batch"] | Integer[Tensor, " batch"]
"""Ages in years, in [0, 100]."""

AgeLogits: TypeAlias = Float[Tensor, "batch ages"]
"""Raw scores over age bins of one year."""

RankLogits: TypeAlias = Float[Tensor, "batch ranks"]
"""Raw scores of "older than k years?" for k = 0, 1, …: one fewer than ages."""

GroupLogits: TypeAlias = Float[Tensor, "batch groups"]
"""Raw scores over age groups."""

Scalar: TypeAlias = Float[Tensor, ""]
"""A loss: one number."""
