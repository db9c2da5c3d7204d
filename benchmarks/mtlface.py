"""MTLFace's verbs: seven ages of a face against seven calls, and the folded copy against the model.

Run it: ``python benchmarks/mtlface.py`` (four minutes on one core). Both sides of each line run alternately in one
process on one thread; figures are median ratios with the lowest and highest round.
"""

from __future__ import annotations

import torch
from _timing import compare
from torch.nn import functional as F

from facemtl.networks.mtlface import MTLFace

ROUNDS = 7


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    for preset, batch in (("paper2021", 1), ("paper2021", 2), ("paper2021", 8), ("code2021", 1), ("code2021", 8)):
        model = getattr(MTLFace, preset)().eval()
        faces = torch.rand(batch, 3, 112, 112) * 2 - 1
        repeated = torch.stack([model.age_to(faces, group) for group in range(7)], dim=1)
        error = (model.age_to(faces) - repeated).abs().max()

        def seven_calls(model: MTLFace = model, faces: torch.Tensor = faces) -> None:
            for group in range(7):
                model.age_to(faces, group)

        ratio = compare(seven_calls, lambda m=model, f=faces: m.age_to(f), rounds=ROUNDS)
        print(f"{preset}, batch {batch}: seven ages, one call against seven: {ratio}; largest difference {error:.1e}")

    model = MTLFace.paper2021().eval()
    faces = torch.rand(8, 3, 112, 112) * 2 - 1
    want = model.embed(faces, flip=False)
    folded = model.for_inference()
    last = model.for_inference().to(memory_format=torch.channels_last)
    low = model.for_inference().to(torch.bfloat16, memory_format=torch.channels_last)
    sides = {"folded float32": folded, "folded float32, channels_last": last, "folded bf16, channels_last": low}
    for name, fast in sides.items():
        ratio = compare(
            lambda: model.embed(faces, flip=False), lambda m=fast: m.embed(faces, flip=False), rounds=ROUNDS
        )
        cosine = F.cosine_similarity(fast.embed(faces, flip=False), want).min()
        print(f"embed of 8 faces, {name} against float32: {ratio}; lowest cosine {cosine:.6f}")


if __name__ == "__main__":
    main()
