"""How fast are aligned crops, beside what others do?

uint8 photographs to 112 × 112 crops as a network wants them (planes of floats in [-1, 1]), similarity included, one
thread. The baseline is the released code's way: scikit-image's least-squares similarity and OpenCV's `warpAffine`, face
by face, on arrays that lie ready in OpenCV's layout. All others are timed in turn with it, each in the layout given.
Then anti-aliased crops against OpenCV's bare warp, which aliases, for the scales (pixels of the photograph to one of
the crop) at which they matter. With a CUDA device, faces per second at batch 1024 and the share of memory bandwidth.

    python benchmarks/alignment.py [--batches 32 256] [--rounds 7] [--no-compile]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from _timing import Comparison, compare
from skimage.transform import SimilarityTransform
from torch import Tensor
from torch.nn import functional as F

from facemtl.alignment.similarity import transform_points
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import FaceAligner

TEMPLATE = FaceTemplate.arcface()
POINTS = TEMPLATE.tensor().numpy()
SIZE = (112, 112)
# Side of the photograph and scale of the face in it: LFW's, and a portrait's.
SETTINGS = ((250, 1.05), (1024, 3.0))


def make_faces(batch: int, side: int, scale: float) -> tuple[Tensor, Tensor]:
    """Smooth random photographs ``(batch, 3, side, side)`` uint8, and landmarks of a face in the middle of each."""
    generator = torch.Generator().manual_seed(side)
    small = torch.rand(batch, 3, side // 8, side // 8, generator=generator)
    images = (F.interpolate(small, size=(side, side), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)
    turn = 0.15 * torch.randn(batch, generator=generator, dtype=torch.float64)
    a, b = scale * turn.cos(), scale * turn.sin()
    x, y = side / 2 - 55.5 * (a - b), side / 2 - 55.5 * (a + b)
    matrices = torch.stack((a, -b, x, b, a, y), 1).view(-1, 2, 3)
    landmarks = transform_points(matrices, TEMPLATE.tensor().expand(batch, 5, 2))
    return images, (landmarks + 0.5 * scale * torch.randn(batch, 5, 2, generator=generator)).float()


def fit(points: np.ndarray) -> np.ndarray:
    """scikit-image's similarity; `from_estimate` came with 0.26, `estimate` goes with it."""
    if hasattr(SimilarityTransform, "from_estimate"):
        return SimilarityTransform.from_estimate(points, POINTS).params[:2]
    transform = SimilarityTransform()
    transform.estimate(points, POINTS)
    return transform.params[:2]


def released(arrays: list[np.ndarray], landmarks: np.ndarray) -> Tensor:
    crops = [cv2.warpAffine(image, fit(points), SIZE) for image, points in zip(arrays, landmarks, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def kornia_way(images: Tensor, matrices: Tensor) -> Tensor:
    from kornia.geometry.transform import warp_affine

    return warp_affine(images.float() / 127.5 - 1, matrices, SIZE, align_corners=True)


def pixel_layout(images: Tensor) -> Tensor:
    """The same images with the three values of a pixel side by side, as decoders leave them."""
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def speed(batch: int, side: int, scale: float, rounds: int, compiled: bool) -> None:
    """Print the rows of one setting."""
    images, landmarks = make_faces(batch, side, scale)
    arrays = list(pixel_layout(images).permute(0, 2, 3, 1).numpy())
    matrices = FaceAligner(backend="torch")(images, landmarks).matrices
    eager, best = FaceAligner(antialias=False, backend="torch"), FaceAligner(antialias=False)
    lying, smooth = pixel_layout(images), FaceAligner()
    rivals: dict[str, Callable[[], object]] = {
        "kornia, warp alone": lambda: kornia_way(images, matrices),
        "FaceAligner, torch eager": lambda: eager(images, landmarks),
        "FaceAligner, auto": lambda: best(images, landmarks),
        "FaceAligner, auto, pixels side by side": lambda: best(lying, landmarks),
        "FaceAligner, auto, anti-aliased": lambda: smooth(images, landmarks),
    }
    if compiled:
        code = torch.compile(eager, fullgraph=True)
        rivals["FaceAligner, torch.compile"] = lambda: code(images, landmarks)
    for name, rival in rivals.items():
        with torch.no_grad():
            result = compare(
                lambda: released(arrays, landmarks.numpy()),
                rival,
                rounds=3 if "kornia" in name else rounds,
                clock=time.process_time,
            )
        print(f"| {side} | {batch} | {name} | {_each(result, batch)} |", flush=True)


def antialiasing(scale: float, rounds: int) -> None:
    """Print anti-aliased faces against OpenCV's bare warp of the same faces, the matrices given to the latter."""
    batch = 32
    images, landmarks = make_faces(batch, math.ceil(150 * scale), scale)
    arrays = list(pixel_layout(images).permute(0, 2, 3, 1).numpy())
    matrices = FaceAligner(backend="torch")(images, landmarks).matrices.numpy()
    for name, aligner in (("auto", FaceAligner()), ("torch eager", FaceAligner(backend="torch"))):
        result = compare(
            lambda: [cv2.warpAffine(image, matrix, SIZE) for image, matrix in zip(arrays, matrices, strict=True)],
            partial(aligner, images, landmarks),
            rounds=rounds,
            clock=time.process_time,
        )
        print(f"| {scale:g} | {name} | {1 / result.ratio:.1f}× | {_each(result, batch)} |", flush=True)


def on_cuda() -> None:
    """Print faces per second at batch 1024, and the bytes that must move as a share of what a copy moves."""
    device = torch.cuda.get_device_name()
    block = torch.empty(2**28, dtype=torch.float32, device="cuda")
    copy = _cuda_seconds(block.clone)
    bandwidth = 2 * block.numel() * 4 / copy
    print(f"\n{device}: a copy moves {bandwidth / 1e9:.0f} GB/s\n")
    print("| side | way | faces / s | GB/s that must move | share of the copy's |\n|---|---|---|---|---|")
    for side, scale in SETTINGS:
        images, landmarks = (value.cuda() for value in make_faces(64, side, scale))
        images, landmarks = images.repeat(16, 1, 1, 1), landmarks.repeat(16, 1, 1)
        for antialias in (False, True):
            aligner = FaceAligner(antialias=antialias)
            for name, run in (("eager", aligner), ("compiled", torch.compile(aligner, fullgraph=True))):
                with torch.no_grad():
                    seconds = _cuda_seconds(partial(run, images, landmarks))
                # each crop is written once in floats; of the photograph the face's pixels are read, or all are halved
                read = 3 * side * side if antialias else 3 * min(4 * 112 * 112, (112 * scale) ** 2)
                moved = 1024 * (read + 3 * 112 * 112 * 4) / seconds
                way = f"{'anti-aliased' if antialias else 'bilinear'}, {name}"
                print(f"| {side} | {way} | {1024 / seconds:,.0f} | {moved / 1e9:.0f} | {moved / bandwidth:.0%} |")


def _cuda_seconds(run: Callable[[], object], repeats: int = 20) -> float:
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def _each(result: Comparison, batch: int) -> str:
    ours, theirs = (seconds * 1e6 / batch for seconds in (result.candidate_seconds, result.baseline_seconds))
    return f"{result.ratio:.2f}× [{result.lowest:.2f}, {result.highest:.2f}] | {theirs:.0f} | {ours:.0f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--scales", type=float, nargs="+", default=[1.05, 2, 3, 4, 5.4, 6, 8, 12])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, torch {torch.__version__}\n")
    print(
        "| side | batch | way | speed against the released way | its µs a face | µs a face |\n|---|---|---|---|---|---|"
    )
    for side, scale in SETTINGS:
        for batch in options.batches:
            speed(batch, side, scale, options.rounds, not options.no_compile)
    print(
        "\n| scale | way | bare warps that it costs | speed against one | its µs a face | µs a face |\n"
        "|---|---|---|---|---|---|"
    )
    for scale in options.scales:
        antialiasing(scale, options.rounds)
    if torch.cuda.is_available():
        on_cuda()


if __name__ == "__main__":
    main()
