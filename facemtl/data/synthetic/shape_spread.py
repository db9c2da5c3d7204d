"""How much people differ in each of the head's local changes."""

from __future__ import annotations

SPREAD_OF_CHANGES: tuple[tuple[str, float], ...] = (
    ("cheek-bones", 0.32),
    ("cheek-", 0.24),
    ("chin-height", 0.14),
    ("chin-width", 0.26),
    ("chin-cleft", 0.22),
    ("chin-jaw-drop", 0.22),
    ("chin-", 0.18),
    ("ear-trans-up", 0.07),
    ("ear-shape-triangle", 0.06),
    ("ear-wing", 0.26),
    ("ear-", 0.15),
    ("eye-scale", 0.26),
    ("eye-trans-out", 0.30),
    ("eye-trans-up", 0.16),
    ("eye-corner", 0.38),
    ("eye-epicanthus", 0.14),
    ("eye-bag", 0.12),
    ("eye-push", 0.16),
    ("eye-", 0.34),
    ("eyebrows-trans-up", 0.24),
    ("eyebrows-angle", 0.16),
    ("eyebrows-", 0.14),
    ("forehead-nubian", 0.03),
    ("forehead-scale-vert", 0.08),
    ("forehead-trans-forward", 0.14),
    ("forehead-", 0.22),
    ("head-angle", 0.06),
    ("head-back", 0.14),
    ("head-scale-vert", 0.20),
    ("head-scale-horiz", 0.19),
    ("head-fat", 0.12),
    ("head-", 0.26),
    ("mouth-trans-out", 0.03),
    ("mouth-angles", 0.10),
    ("mouth-laugh-lines", 0.14),
    ("mouth-trans-up", 0.15),
    ("mouth-trans-forward", 0.16),
    ("mouth-scale-horiz", 0.34),
    ("mouth-lowerlip", 0.22),
    ("mouth-upperlip-width", 0.14),
    ("mouth-", 0.30),
    ("neck-double", 0.06),
    ("nose-trans-out", 0.03),
    ("nose-trans-up", 0.28),
    ("nose-point-up", 0.16),
    ("nose-compression", 0.12),
    ("nose-flaring", 0.16),
    ("nose-nostrils-width", 0.18),
    ("nose-nostrils-angle", 0.20),
    ("nose-septumangle", 0.20),
    ("nose-base-up", 0.16),
    ("nose-scale-vert", 0.28),
    ("nose-scale-depth", 0.24),
    ("nose-hump", 0.36),
    ("nose-width3", 0.20),
    ("nose-", 0.28),
)
"""Standard deviation of each change, by the beginning of its name (the first that fits), in units of the modellers'
extremes. Chosen so that distances between the points that anthropologists measure (eye corners, wings of the nose,
mouth corners, chin, cheek bones ...) vary over these people about as they do over adults of one sex and ancestry;
``tests/properties/test_synthetic_people.py`` holds it to that."""

CHANGES_OF_FATNESS: tuple[tuple[str, float], ...] = (
    ("head-fat-incr", 0.60),
    ("cheek-volume-incr", 0.35),
    ("cheek-bones-incr", -0.15),
    ("neck-double-incr", 0.30),
    ("chin-width-incr", 0.15),
)
"""What the fattest have more of than the average, and the thinnest less. MakeHuman's own axis of weight shapes the
body and ends at the nape."""

_EYE_OPENING = 0.2  # MakeHuman's averages look through narrower lids than people in portraits do,
_MOUTH_ANGLES = 0.12  # and their mouths hang


def mean_of(name: str) -> float:
    """Mean of a change over people."""
    return _EYE_OPENING if "eye-height" in name else _MOUTH_ANGLES if name == "mouth-angles-up" else 0.0


def spread_of(name: str) -> float:
    """Standard deviation of a change over people."""
    bare = name[2:] if name.startswith(("l-", "r-")) else name
    return next(spread for start, spread in SPREAD_OF_CHANGES if bare.startswith(start))


def asymmetry_of(name: str) -> float:
    """Standard deviation of what a person's left side has beyond the right; nobody's face is symmetric."""
    return 0.15 * spread_of(name) if name.startswith(("l-", "r-")) else 0.0
