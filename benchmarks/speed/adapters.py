"""What a training step costs with each adapter and tuning table: time, what learns, memory.

    python -m benchmarks.speed.adapters [--rounds 7] [--cpu] [--precision bf16]        writes results/adapters.json

Every contestant is a run of the real loop on random images, whose arithmetic (fp32 or bf16) is the faster one as
measured at its start, or as said; all of a network step in turn. With --cpu, one thread and its own time count: for
machines that others use, too. `memory_mb` is weights as they are kept, gradients, moments and what autograd keeps
between forward and backward.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import interleave, medians, write
from visionft.adapters.attach import adapt
from visionft.backbone import Backbone
from visionft.data.views import Views
from visionft.kernels import fast_kernels, keep_memory
from visionft.objective import View
from visionft.plan import activations
from visionft.recipe import Finetune
from visionft.tasks.classify import Classify
from visionft.train import Run

NETWORKS = [("vit_small_patch16_224", 112, 32), ("tf_efficientnet_lite0", 128, 32)]
METHODS: dict[str, dict[str, Any]] = {
    "full": {"tune": "full"},
    "probe": {"tune": {r"backbone\..*": 0.0, r".*": 1.0}},  # every step through the frozen network; no cached features
    "lora": {"adapter": {"name": "lora", "last": 1.0}},
    "lora, last third": {"adapter": {"name": "lora", "last": 1 / 3}},
    "lora, last quarter": {"adapter": {"name": "lora", "last": 1 / 4}},
    "dora": {"adapter": {"name": "lora", "dora": True}},
    "qlora nf4": {"adapter": {"name": "lora", "base": "nf4"}},
    "qlora int8": {"adapter": {"name": "lora", "base": "int8"}},
    "ssf": {"adapter": "ssf"},
    "bias": {"tune": "bias"},
    "bottleneck": {"adapter": "bottleneck"},
    "prompts": {"adapter": "prompts"},
    "prefix": {"adapter": "prefix"},
}
TOKENS = ("prompts", "prefix")


def start(network: str, size: int, batch: int, how: dict[str, Any], steps: int) -> tuple[Run, Callable[[], None]]:
    """A run of the real loop, and what makes its next step."""
    torch.manual_seed(0)
    model = Classify(Backbone(network, size=size), classes=10)
    recipe = Finetune(size=size, batch=batch, steps=steps, **how)
    if recipe.adapter != "none":
        adapt(model.backbone, recipe.adapter)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(2 * batch)]
    labels = rng.integers(0, 10, len(pixels))
    run = Run(
        model, Views(pixels, {"image": View("none")}, {"image": size}, labels=labels), recipe, torch.device("cpu")
    )
    with fast_kernels() as kernels:
        run.begin(None)  # chooses the arithmetic with the kernels that it will have
        kernels.fold(model.backbone)
        folds = kernels.folds
    wrapped = run.wrap()

    def step() -> None:
        with fast_kernels() as kernels:
            kernels.folds = folds
            run.advance(wrapped)

    return run, step


def measure(network: str, size: int, batch: int, words: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each method that the network takes."""
    methods = {name: how for name, how in METHODS.items() if network.startswith("vit") or name not in TOKENS}
    said = {"precision": words.precision}
    made = {name: start(network, size, batch, how | said, words.rounds + 10) for name, how in methods.items()}
    clock = time.process_time if words.cpu else time.perf_counter
    seconds = medians(interleave({name: step for name, (_, step) in made.items()}, words.rounds, clock=clock))
    rows = []
    for name, (run, _) in made.items():
        learns = sum(p.numel() for p in run.learned)
        held = sum(t.numel() * t.element_size() for t in [*run.objective.parameters(), *run.objective.buffers()])
        total = sum(p.numel() for p in made["full"][0].objective.parameters())
        kept = activations(run.objective, dict(run.feed.sample(batch)), run.precision)
        row = {
            "table": f"step {network}", "clock": "cpu" if words.cpu else "wall",
            "network": network, "size": size, "batch": batch, "method": name, "learns": learns,
            "share": round(learns / total, 5), "step_ms": round(1e3 * seconds[name], 1),
            "of_full": round(seconds[name] / seconds["full"], 3), "precision": str(run.precision),
            "memory_mb": round((held + 12 * learns + kept) / 2**20, 1),
        }  # fmt: skip
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    words = parser.parse_args()
    keep_memory()
    if words.cpu:
        torch.set_num_threads(1)
    how = f"--rounds {words.rounds} --precision {words.precision}" + (" --cpu" if words.cpu else "")
    for network in NETWORKS:
        rows = measure(*network, words)
        print(write("adapters", rows, f"python -m benchmarks.speed.adapters {how}", by="table"))


if __name__ == "__main__":
    main()
