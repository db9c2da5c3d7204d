"""Kill a training run at random moments, let it go on, and compare it with one that nobody killed.

Each trial starts ``examples/mtlface_lcaf.py`` at a tiny size in a process of its own, kills it with SIGKILL at a random
moment (in a step, a checkpoint, an export), starts the same command again, kills that too with a chance of one half,
and lets the last one finish. Every metric of every step and every weight must be the same bits as those of the run left
alone.

    python benchmarks/kill_and_resume.py --kills 20
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from facemtl import MTLFace
from tests.example_runs import metrics, start, wait_for_step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, kills, failures = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        finish(alone)
        expected, weights = metrics(alone), MTLFace.from_pretrained(alone / "model").state_dict()
        print(f"{len(expected)} steps without a kill", flush=True)
        while kills < options.kills:
            output = Path(folder) / f"killed-{kills}"
            moments = [kill(output, draw)]
            while kills + len(moments) < options.kills and draw.random() < 0.5:
                moments.append(kill(output, draw))
            kills += len(moments)
            finish(output)
            found = MTLFace.from_pretrained(output / "model").state_dict()
            same = metrics(output) == expected and all(torch.equal(found[name], weights[name]) for name in weights)
            failures += not same
            print(f"killed {', '.join(moments)}: {'the same bits' if same else 'DIFFERENT'}", flush=True)
    print(f"{kills} kills, {failures} runs that differ")
    return int(failures > 0)


def kill(output: Path, draw: random.Random) -> str:
    """Start the run, kill it at a random moment, and say when that was."""
    process = start(output)
    done = max(metrics(output), default=0) if (output / "metrics.csv").is_file() else 0
    wait_for_step(process, output, draw.randint(min(done, 9), 9))
    time.sleep(draw.random() * 0.5)
    ended = process.poll() is not None
    process.kill()
    process.communicate()
    return "after its end" if ended else f"after step {max(metrics(output), default=0)}"


def finish(output: Path) -> None:
    """Run to the end."""
    process = start(output)
    text, _ = process.communicate()
    if process.returncode:
        raise SystemExit(text)


if __name__ == "__main__":
    raise SystemExit(main())
