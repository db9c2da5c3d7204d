"""What `import facemtl` costs."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys, time
import torch
before = set(sys.modules)
start = time.perf_counter()
import facemtl
print(json.dumps({"seconds": time.perf_counter() - start, "new": sorted(set(sys.modules) - before)}))
"""


def test_import_is_light() -> None:
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout)
        for _ in range(2)
    ]
    roots = {name.partition(".")[0] for name in runs[0]["new"]}
    assert not roots & {"torchvision", "kornia", "cv2", "PIL", "timm", "onnx", "hypothesis", "sphinx", "pytest"}
    assert min(run["seconds"] for run in runs) < 1.0
