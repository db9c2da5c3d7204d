"""The inventory of public names: none disappears unnoticed."""

from __future__ import annotations

from pathlib import Path

import facemtl

INVENTORY = Path(__file__).with_name("public_names.txt")

PROMISED = {
    "AdaFace", "AgeEstimationLoss", "AgeGroups", "AgeHead", "AgingGenerator", "ArcFace",
    "AttentionFeatureDecomposition",
    "CosFace", "CurricularFace", "GradientReversal", "IRResNet", "IdentityConditionalModule", "MTLFace", "MagFace",
    "PatchDiscriminator", "load_released_weights",
}  # fmt: skip


def test_no_public_name_disappears() -> None:
    recorded = set(INVENTORY.read_text().split())
    public = set(facemtl.__all__)
    missing, new = sorted(recorded - public), sorted(public - recorded)
    assert not missing, (
        f"{missing} were public. Keep an alias that warns for one minor version, say so in CHANGELOG.md, "
        f"then delete them from {INVENTORY.name}."
    )
    assert not new, f"add {new} to {INVENTORY.name}, and each to CHANGELOG.md"


def test_promised_names_are_public_and_importable() -> None:
    assert set(facemtl.__all__) >= PROMISED
    assert all(hasattr(facemtl, name) for name in facemtl.__all__)
