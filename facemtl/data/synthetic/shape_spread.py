"""How much people differ in each of the head's local changes."""

from __future__ import annotations

SPREAD_OF_CHANGES: tuple[tuple[str, float], ...] = (
    ("mouth-trans-out", 0.04),
    ("nose-trans-out", 0.04),
    ("ear-trans-up", 0.15),
    ("ear-shape-triangle", 0.15),
    ("ear-", 0.35),
    ("eye-scale", 0.40),
    ("eye-trans-out", 0.45),
    ("eye-trans-up", 0.20),
    ("eye-height", 0.32),
    ("eye-corner", 0.42),
    ("eye-epicanthus", 0.20),
    ("eye-bag", 0.18),
    ("eye-push", 0.20),
    ("eye-", 0.35),
    ("eyebrows-", 0.38),
    ("forehead-nubian", 0.10),
    ("forehead-scale-vert", 0.25),
    ("forehead-", 0.30),
    ("head-angle", 0.15),
    ("head-back", 0.25),
    ("head-scale-vert", 0.28),
    ("head-fat", 0.40),
    ("head-", 0.32),
    ("cheek-bones", 0.45),
    ("cheek-", 0.38),
    ("chin-cleft", 0.25),
    ("chin-", 0.42),
    ("mouth-angles", 0.15),
    ("mouth-dimples", 0.30),
    ("mouth-scale-horiz", 0.42),
    ("mouth-upperlip-width", 0.20),
    ("mouth-lowerlip-width", 0.20),
    ("mouth-", 0.36),
    ("nose-point-up", 0.30),
    ("nose-nostrils-angle", 0.25),
    ("nose-compression", 0.20),
    ("nose-septumangle", 0.25),
    ("nose-flaring", 0.30),
    ("nose-", 0.45),
    ("neck-double", 0.12),
)
"""Standard deviation of each change, by the beginning of its name (the first that fits), in units of the modellers'
extremes: what sets people apart (eyes, nose, jaw) varies most, what deforms (nubian foreheads, pointed ears) little."""


def spread_of(name: str) -> float:
    """Standard deviation of a change over people."""
    bare = name[2:] if name.startswith(("l-", "r-")) else name
    return next(spread for start, spread in SPREAD_OF_CHANGES if bare.startswith(start))


def asymmetry_of(name: str) -> float:
    """Standard deviation of what a person's left side has beyond the right; nobody's face is symmetric."""
    return 0.15 * spread_of(name) if name.startswith(("l-", "r-")) else 0.0
