"""One side of `pretrain_step`: a whole training loop that takes one step whenever it is told to.

python -m benchmarks.speed.contestant SIDE CASE FOLDER THREADS     SIDE is ours, lightly-0 or lightly-2 (workers)
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.turns import serve

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

OPTIONS: dict[str, dict[str, Any]] = {"dino": {"prototypes": 2048}, "dinov2": {"prototypes": 2048}}
VIEWS: dict[str, dict[str, Any]] = {"dino": {"crops": {"share": 0.5}}, "dinov2": {"crops": {"share": 0.5}}}


class Ours:
    """A user's run, one step at a time."""

    def __init__(self, case: dict[str, Any], folder: Path) -> None:
        from visionft.data.prepare import prepare
        from visionft.kernels import fast_kernels, keep_memory
        from visionft.log import Console
        from visionft.pretraining.start import build
        from visionft.recipe import Pretrain
        from visionft.train import Run

        keep_memory()  # as the command line does
        name = case["objective"]
        recipe = Pretrain(
            data=str(folder),
            backbone=case["backbone"],
            weights="none",
            size=case["size"],
            batch=case["batch"],
            objective={"name": name, **OPTIONS.get(name, {})},
            views=VIEWS.get(name, {}),
            cache="ram",
            steps=10**6,
        )
        began = time.perf_counter()
        ready = prepare(recipe, Console(quiet=True), labelled=False)
        self.decoding, self.images = time.perf_counter() - began, len(ready.table)
        self.objective, data, _ = build(recipe, ready)
        self.run, self.fast = Run(self.objective.to(DEVICE), data, recipe, DEVICE), fast_kernels
        with self.fast():
            self.run.begin(None)
        self.model = self.run.wrap()

    def step(self) -> None:
        """One optimizer step."""
        with self.fast():
            self.run.advance(self.model)
        settle()

    def facts(self) -> dict[str, Any]:
        """The step's arithmetic and what came before it."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.step()
        return {
            "gigaflops": counter.get_total_flops() / 1e9,
            "bf16": self.run.precision.bf16,
            "precision": str(self.run.precision),
            "decode_once_s": round(self.decoding, 2),
            "images": self.images,
            **gpu(),
        }


def settle() -> None:
    """Wait until a GPU has done what it was told to."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def gpu() -> dict[str, float]:
    """The peak of a GPU's memory."""
    return {"peak_gpu_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)} if DEVICE.type == "cuda" else {}


def main() -> None:
    """Build one side and serve its steps."""
    side, words, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    case = json.loads(words)
    if side == "ours":
        ours = Ours(case, Path(folder))
        serve(ours.step, ours.facts)
        return
    from benchmarks.peers import lightly_loops

    make = getattr(lightly_loops, case["objective"])
    loop = make(case["backbone"], case["size"], case["batch"], Path(folder), workers=int(side.removeprefix("lightly-")))

    def step() -> None:
        loop.step()
        settle()

    serve(step, gpu)


if __name__ == "__main__":
    main()
