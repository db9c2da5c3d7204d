"""How much faster is pasting a face where it is than warping and blending the whole photograph?

The usual way: ``cv2.warpAffine`` of the crop and of its mask to the photograph's size, in float32, then a blend of the
whole photograph in NumPy. Ours: ``facemtl.paste_back``. Both get a uint8 photograph and a float crop of 112×112 and
return uint8; they are first held to differ by at most one level. Sides alternate in one process, one thread is timed by
the process's own clock. Memory in MB beyond what was live before, the new photograph included, is asked of the
operating system.

    python benchmarks/paste_back.py [--rounds 9] [--threads 1]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from _timing import MEGABYTE, compare, peak_resident
from torch import Tensor

import facemtl

CROP = 112
PHOTOGRAPHS = ((1024, 1024), (3000, 4000))
FACES = (60, 250, 900)


def planted(side: int, height: int, width: int) -> Tensor:
    """Photograph to crop for a face of ``side`` pixels, a little turned, in the middle."""
    cosine, sine = (CROP / side * part for part in (math.cos(0.1), math.sin(0.1)))
    x, y, middle = width / 2, height / 2, (CROP - 1) / 2
    rows = [[cosine, -sine, middle - cosine * x + sine * y], [sine, cosine, middle - sine * x - cosine * y]]
    return torch.tensor([rows], dtype=torch.float64)


def usual_way(photograph: np.ndarray, crop: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp crop and mask over the whole photograph, and blend it all."""
    size, flags = photograph.shape[1::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(crop, matrix, size, flags=flags)
    share = cv2.warpAffine(mask, matrix, size, flags=flags)[..., None]
    return np.round(share * warped + (1.0 - share) * photograph).clip(0, 255).astype(np.uint8)


def sides(height: int, width: int, face: int) -> dict[str, Callable[[], object]]:
    """The usual way, ours, and ours with what it can do besides, on one photograph with one face."""
    torch.manual_seed(0)
    photograph = torch.randint(256, (3, height, width), dtype=torch.uint8)
    crop = torch.nn.functional.interpolate(torch.rand(1, 3, 14, 14) * 2 - 1, size=(CROP, CROP), mode="bicubic")
    crop = crop.clamp(-1, 1)
    matrix, mask = planted(face, height, width), facemtl.face_mask(CROP, CROP)
    pixels, levels = photograph.movedim(0, 2).contiguous().numpy(), ((crop[0] + 1) * 127.5).movedim(0, 2)
    levels = levels.contiguous().numpy()
    original = torch.zeros_like(crop)

    def usual() -> np.ndarray:
        return usual_way(pixels, levels, mask[0, 0].numpy(), matrix[0].numpy())

    def ours(**options: object) -> Tensor:
        return facemtl.paste_back(photograph[None], crop, matrix, **options)[0]

    difference = (ours().movedim(0, 2).int() - torch.from_numpy(usual()).int()).abs()
    share = (difference > 1).double().mean().item()
    if face >= CROP and share > 1e-4:  # a shrunk crop is anti-aliased by us alone
        raise RuntimeError(f"the two differ by more than one level in {share:.2%} of the pixels")
    return {
        "usual": usual,
        "paste_back": ours,
        "with originals": lambda: ours(originals=original),
        "with match_colour": lambda: ours(match_colour="mean_std"),
    }


def measure(height: int, width: int, face: int, rounds: int, clock: Callable[[], float]) -> None:
    """Print one row for each of our ways."""
    functions = sides(height, width, face)
    usual = functions.pop("usual")
    usual()
    memory = peak_resident(usual) / MEGABYTE
    for name, function in functions.items():
        result = compare(usual, function, rounds=rounds, clock=clock)
        print(
            f"| {height}×{width} | {face} | {name} | {result.baseline_seconds * 1e3:.1f} | "
            f"{result.candidate_seconds * 1e3:.1f} | {result.ratio:.1f}× [{result.lowest:.1f}, {result.highest:.1f}] | "
            f"{memory:.1f} | {peak_resident(function) / MEGABYTE:.1f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {options.threads} thread(s), crop {CROP}×{CROP}")
    print("| photograph | face, pixels | ours | usual ms | ours ms | speed [range] | usual MB | ours MB |")
    print("|---|---|---|---|---|---|---|---|")
    for height, width in PHOTOGRAPHS:
        for face in FACES:
            measure(height, width, face, options.rounds, clock)


if __name__ == "__main__":
    main()
