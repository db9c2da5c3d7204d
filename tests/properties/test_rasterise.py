"""What holds of any mesh: surfaces without seams, pictures that do not depend on their batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.synthetic.rasterise import rasterise
from tests.meshes import grid_mesh


def _random(seed: int, *, batch: int = 2, vertices: int = 20, triangles: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, vertices, 3, generator=generator)
    points = points * torch.tensor([60.0, 50, 40]) + torch.tensor([-10.0, -10, 5])
    return points, torch.randint(0, vertices, (triangles, 3), generator=generator)


@given(seed=st.integers(0, 2**32), columns=st.integers(1, 9), rows=st.integers(1, 9), whole=st.booleans())
def test_each_pixel_of_a_surface_is_covered_once(seed: int, columns: int, rows: int, whole: bool) -> None:
    """Drawn one by one, the triangles of a crumpled sheet leave no hole and share no pixel."""
    points, triangles = grid_mesh(columns, rows)
    generator = torch.Generator().manual_seed(seed)
    inner = (points > 0).all(1) & (points[:, 0] < columns) & (points[:, 1] < rows)
    # no more, or triangles turn over; rounding moves them further
    jitter = (0.11 if whole else 0.24) * (2 * torch.rand(points.shape, generator=generator) - 1) * inner[:, None]
    pixels = (points + jitter) * 4
    pixels = pixels.round() if whole else pixels + 0.25
    size = (4 * rows + 2, 4 * columns + 2)
    vertices = torch.cat((pixels, torch.full((len(pixels), 1), 10.0)), 1)[None]
    each = torch.stack(
        [rasterise(vertices, one[None], size=size, cull=False).triangles[0] >= 0 for one in triangles]
    ).sum(0)
    assert each.max() == 1  # none twice
    inside = each[1 : 4 * rows, 1 : 4 * columns]
    assert (inside == 1).all()  # no hole
    together = rasterise(vertices, triangles, size=size, cull=False).triangles[0] >= 0
    torch.testing.assert_close(together, each > 0)


@given(seed=st.integers(0, 2**32))
def test_fragments_are_sound(seed: int) -> None:
    vertices, triangles = _random(seed)
    fragments = rasterise(vertices, triangles, size=(31, 37), cull=False)
    seen = fragments.triangles >= 0
    assert (fragments.barycentrics >= 0).all()
    torch.testing.assert_close(fragments.barycentrics.sum(-1), seen.float(), rtol=0, atol=1e-5)
    assert torch.equal(fragments.depth.isfinite(), seen)
    if seen.any():
        assert fragments.depth[seen].min() >= vertices[..., 2].min() * (1 - 1e-5)
        assert fragments.depth[seen].max() <= vertices[..., 2].max() * (1 + 1e-5)


@given(seed=st.integers(0, 2**32), batch=st.integers(0, 4))
def test_a_picture_does_not_depend_on_its_batch(seed: int, batch: int) -> None:
    vertices, triangles = _random(seed, batch=batch)
    together = rasterise(vertices, triangles, size=(20, 60))
    for number in range(batch):
        alone = rasterise(vertices[number : number + 1], triangles, size=(20, 60))
        assert all(torch.equal(one[0], all_[number]) for one, all_ in zip(alone, together, strict=True))


@given(seed=st.integers(0, 2**32))
def test_the_order_of_triangles_changes_their_numbers_only(seed: int) -> None:
    vertices, triangles = _random(seed)
    order = torch.randperm(len(triangles), generator=torch.Generator().manual_seed(seed))
    first = rasterise(vertices, triangles, size=(30, 30))
    second = rasterise(vertices, triangles[order], size=(30, 30))
    torch.testing.assert_close(first.depth, second.depth, rtol=1e-5, atol=0)


@given(seed=st.integers(0, 2**32), right=st.integers(-20, 20), down=st.integers(-20, 20))
def test_whole_pixels_move_the_picture(seed: int, right: int, down: int) -> None:
    vertices, triangles = _random(seed, batch=1)
    moved = vertices + torch.tensor([float(right), float(down), 0.0])
    size = (90, 90)
    first = rasterise(vertices + torch.tensor([25.0, 25, 0]), triangles, size=size).triangles
    second = rasterise(moved + torch.tensor([25.0, 25, 0]), triangles, size=size).triangles
    shifted = first.roll((down, right), (1, 2))
    different = (shifted != second)[:, 20:-20, 20:-20]
    # equally deep triangles may swap by the last bit of their depth
    assert different.float().mean() < 0.01


@given(seed=st.integers(0, 2**32))
def test_culling_shows_one_side(seed: int) -> None:
    vertices, triangles = _random(seed, batch=1, triangles=1)
    facing = rasterise(vertices, triangles, size=(30, 30)).triangles >= 0
    away = rasterise(vertices, triangles.flip(1), size=(30, 30)).triangles >= 0
    either = rasterise(vertices, triangles, size=(30, 30), cull=False).triangles >= 0
    assert not (facing.any() and away.any())
    assert torch.equal(facing | away, either)
