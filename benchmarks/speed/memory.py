"""What a training step gains when the process keeps its freed memory (`visionft.kernels.keep_memory`).

    python -m benchmarks.speed.memory             four minutes on two idle cores; writes results/memory.json

The setting belongs to a process for good, so every contestant has one of its own, and they take turns. Beside images
per second stand page faults per step, which no busy neighbour disturbs.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import timm
import torch
import torch.nn.functional as F

from benchmarks.harness import interleave, write
from visionft.kernels import fast_kernels, keep_memory

CASES = [  # network, pixels, images, precision
    (*network, precision)
    for network in (("tf_efficientnet_lite0", 128, 32), ("tf_efficientnet_lite0", 224, 16), ("resnet18", 224, 32))
    for precision in ("fp32", "bf16")
]
STEPS, ROUNDS = 6, 3


def contestant(kept: bool, name: str, pixels: int, batch: int, precision: str) -> dict[str, float]:
    """Train a few steps in this process; returns seconds and page faults of a step and the peak in GB."""
    if kept:
        keep_memory()
    model = timm.create_model(name, num_classes=10).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, pixels, pixels).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    faults: list[int] = []

    def step() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with fast_kernels():
            with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
                loss = F.cross_entropy(model(images), labels)
            torch.autograd.backward(loss)
        model.zero_grad()
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    seconds = interleave({"step": step}, STEPS, warmup=3)["step"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": statistics.median(seconds), "faults": statistics.median(faults[-STEPS:]), "peak_gb": peak}


def row(name: str, pixels: int, batch: int, precision: str) -> dict[str, Any]:
    """Alternate processes of both kinds and take medians."""
    facts: dict[str, Any] = {"network": name, "pixels": pixels, "batch": batch, "precision": precision}
    runs: dict[str, list[dict[str, float]]] = {"default": [], "kept": []}
    for _ in range(ROUNDS):
        for kind, found in runs.items():
            words = [kind, name, str(pixels), str(batch), precision]
            child = subprocess.run([sys.executable, "-m", __spec__.name, *words], capture_output=True, check=True)
            found.append(json.loads(child.stdout))
    for kind, found in runs.items():
        median = {key: statistics.median(run[key] for run in found) for key in found[0]}
        speed = round(batch / median["seconds"], 1)
        facts[kind] = {
            "images_per_second": speed,
            "page_faults": median["faults"],
            "peak_gb": round(median["peak_gb"], 2),
        }
    return facts | {"gain": round(facts["kept"]["images_per_second"] / facts["default"]["images_per_second"], 2)}


def main() -> None:
    """Be one contestant if told which, else run them all and write the rows."""
    if len(sys.argv) > 1:
        kind, name, pixels, batch, precision = sys.argv[1:]
        print(json.dumps(contestant(kind == "kept", name, int(pixels), int(batch), precision)))
        return
    rows = []
    for case in CASES:
        rows.append(row(*case))
        print(rows[-1], flush=True)
    print(write("memory", rows, "python -m benchmarks.speed.memory"))


if __name__ == "__main__":
    main()
