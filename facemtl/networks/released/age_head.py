"""The released weights of the age head."""

from __future__ import annotations

from facemtl.networks.released.renaming import ReleasedFormat

AGE_HEAD_RULES: tuple[tuple[str, str], ...] = (
    (r"age_output_layer\.0\.(\w+)", r"trunk.norm.\1"),
    (r"age_output_layer\.2\.(\w+)", r"trunk.linear.\1"),
    (r"age_output_layer\.4\.(\w+)", r"age.\1"),
    (r"group_output_layer\.(\w+)", r"group.\1"),
)
"""Keys of the age head alone; put both prefixes before each pair to find it inside a larger network."""

AGE_HEAD_2021 = ReleasedFormat(name="the authors' age head (CVPR 2021)", rules=AGE_HEAD_RULES)
"""For ``AgeHead()``; the journal package's head has the same keys."""
