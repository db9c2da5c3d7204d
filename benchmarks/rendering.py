"""How many synthetic faces a second, and where the time goes.

    python benchmarks/rendering.py [--batch 8] [--rounds 7] [--device cpu] [--size 112] [--threads 1]

Stages are timed one after another on the same faces: drawing who and how, the head's shape, its texture maps, which
triangle each sample shows, shadows, the whole of rendering (these two included), development. On the CPU the clock is
the process's own time, so that what else the machine does counts less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from facemtl.alignment.templates import FaceTemplate
from facemtl.data.synthetic.camera import aligning_matrices, apply_matrices, project, turn
from facemtl.data.synthetic.development import develop
from facemtl.data.synthetic.moved import moved
from facemtl.data.synthetic.rasterise import find_covered
from facemtl.data.synthetic.render import render
from facemtl.data.synthetic.renderer import FaceRenderer
from facemtl.data.synthetic.shadow import cast_shadows
from facemtl.data.synthetic.topology import smooth_normals, triangle_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with torch.no_grad():
        for name, work in _stages(given.batch, torch.device(given.device), given.size).items():
            taken = [_seconds(work, given.device) for _ in range(given.rounds + 1)][1:]
            each = statistics.median(taken) / given.batch
            print(f"{name:34} {each * 1e3:8.3f} ms a face, {1 / each:8.1f} faces a second")


def _stages(batch: int, device: torch.device, size: int) -> dict[str, Callable[[], object]]:
    renderer = FaceRenderer(template=FaceTemplate.arcface(size)).to(device)
    numbers = torch.arange(batch)
    ages = torch.linspace(2, 95, batch)
    drawn = renderer.draw(numbers, ages, numbers)
    factors = type(drawn)(*(moved(part, device) for part in drawn))
    shape, camera, light = (size, size), factors.camera, factors.light

    def head() -> torch.Tensor:
        return renderer.head(factors.traits, factors.ages, factors.actions)

    vertices = head()

    def dress() -> object:
        return renderer.appearance(factors.appearance, factors.traits, factors.ages, renderer.head, vertices)

    heads = dress()
    turned = turn(heads.vertices, camera)
    seen = project(turn(heads.landmarks, camera), camera, size=shape)[..., :2]
    matrices = aligning_matrices(seen, renderer.template, errors=factors.errors)
    samples = apply_matrices(matrices, project(turned, camera, size=shape))
    samples = torch.cat((2 * samples[..., :2] + 0.5, samples[..., 2:]), -1)
    topology = heads.topology
    normals = smooth_normals(triangle_frames(turned, topology), topology)
    to_light, softness = light.directions[:, 0], light.softness
    scene = {"camera": camera, "light": light, "background": factors.background, "size": shape, "matrices": matrices}
    rendered = render(heads, **scene)
    return {
        "drawing who and how": lambda: renderer.draw(numbers, ages, numbers),
        "shape of the head": head,
        "texture maps and hair": dress,
        "which triangle (in rendering)": lambda: find_covered(samples, topology.triangles, size=(2 * size, 2 * size)),
        "shadows (in rendering)": lambda: cast_shadows(
            turned, normals, topology.triangles, to_light=to_light, softness=softness
        ),
        "rendering": lambda: render(heads, **scene),
        "development": lambda: develop(rendered.images, factors.development),
        "all": lambda: renderer(numbers, ages, numbers),
    }


def _seconds(work: Callable[[], object], device: str) -> float:
    cuda = device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    start = clock()
    work()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
