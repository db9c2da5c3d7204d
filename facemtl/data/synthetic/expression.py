"""What a face does at the moment of the picture: mostly little."""

from __future__ import annotations

from torch import Tensor

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform

_SMILE = (
    ("mouthSmile", 0.75),
    ("cheekSquint", 0.40),
    ("eyeSquint", 0.20),
    ("mouthDimple", 0.15),
    ("mouthUpperUp", 0.12),
)
_STERN = (("browDown", 0.7), ("mouthFrown", 0.35), ("mouthPress", 0.5), ("noseSneer", 0.15))
_SURPRISE = (("browInnerUp", 0.8), ("browOuterUp", 0.7), ("eyeWide", 0.4), ("jawOpen", 0.08))


def draw_actions(seed: int, faces: Tensor, action_names: tuple[str, ...]) -> Tensor:
    """Draw facial actions: a quarter of the faces neutral, half smile more or less, the rest frown or wonder a little.

    Args:
        seed: The data set's.
        faces: ``(batch,)`` int64 indices of pictures.
        action_names: Of the head (:attr:`~facemtl.data.synthetic.head_model.HeadModel.action_names`).

    Returns:
        ``(batch, actions)`` weights in [0, 1].
    """
    uniform = draw_uniform(seed, Purpose.EXPRESSION, faces, count=8 + len(action_names)).float()
    kind, strength, lean = uniform[:, 0], uniform[:, 1], uniform[:, 2]
    actions = 0.06 * uniform[:, 8:] ** 3  # the unrest of any living face
    smiles = ((kind >= 0.25) & (kind < 0.75)).float() * strength
    actions = actions + _of(_SMILE, action_names, lean) * smiles[:, None]
    actions = actions + _of(_STERN, action_names, lean) * (((kind >= 0.75) & (kind < 0.88)).float() * strength)[:, None]
    actions = actions + _of(_SURPRISE, action_names, lean) * ((kind >= 0.88).float() * strength)[:, None]
    for name, value in _gaze(uniform[:, 3], uniform[:, 4]).items():
        actions[:, action_names.index(name)] += value
    blink = 0.25 * uniform[:, 5] ** 4
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        actions[:, action_names.index(name)] += blink
    # What opens the mouth without will shows its dark inside; a smile with closed lips is the commonest in portraits.
    actions[:, [action_names.index(name) for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")]] *= 0.5
    return actions.clamp(0.0, 1.0)


def _of(expression: tuple[tuple[str, float], ...], action_names: tuple[str, ...], lean: Tensor) -> Tensor:
    """``(batch, actions)`` of an expression, a little stronger on the side that the person leans to."""
    weights = lean.new_zeros(len(lean), len(action_names))
    for column, name in enumerate(action_names):
        bare = name.removesuffix("Left").removesuffix("Right")
        side = 0.0 if bare == name else 1.0 if name.endswith("Left") else -1.0
        for part, weight in expression:
            if bare == part:
                weights[:, column] = weight * (1 + 0.25 * side * (2 * lean - 1))
    return weights


def _gaze(sideways: Tensor, upwards: Tensor) -> dict[str, Tensor]:
    """Looking near the camera. Left and right are the person's own: out on one side is in on the other."""
    # At rest, MakeHuman's eyes look a few degrees upwards.
    side, up = 0.7 * (sideways - 0.5), 0.5 * (upwards - 0.5) - 0.10
    left, right = side.clamp_min(0), (-side).clamp_min(0)
    high, low = up.clamp_min(0), (-up).clamp_min(0)
    return {
        "eyeLookOutLeft": left,
        "eyeLookInRight": left,
        "eyeLookInLeft": right,
        "eyeLookOutRight": right,
        "eyeLookUpLeft": high,
        "eyeLookUpRight": high,
        "eyeLookDownLeft": low,
        "eyeLookDownRight": low,
    }
