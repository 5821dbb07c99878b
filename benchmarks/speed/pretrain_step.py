"""Images per second of SimCLR, DINO and MAE, from files on disk to the optimizer step: ours against lightly's loops.

python -m benchmarks.speed.pretrain_step [--rounds 7] [--threads 2]

Both sides get the same files, model, batch, image size, crops and threads, and step in turn in one process, without
workers: workers would load lightly's next batches, and take a core, while ours is being timed. What two workers gain
for lightly is measured afterwards, alone, over steps in a row (`lightly_2_workers_img_s`); its better one counts.
Ours decodes once (`decode_once_s`, not in `ours_img_s`; `speedup_10_epochs` pays for it over ten epochs) and chooses
its arithmetic as a user's run would. `matmul_share` is the rate of the step's own multiplications (fp32 or bf16, as
chosen) over that of a plain matrix product, timed in the same rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import interleave, medians, write
from benchmarks.images import PHOTO, elpv_jpegs
from benchmarks.peers import lightly_loops
from visionft.data.prepare import Prepared, prepare
from visionft.kernels import fast_depthwise
from visionft.log import Console
from visionft.pretraining.run import build
from visionft.recipe import Pretrain
from visionft.train import Run

CASES: list[dict[str, Any]] = [
    {"objective": "simclr", "backbone": "resnet18", "size": 128, "batch": 64, "photos": "small"},
    {"objective": "dino", "backbone": "resnet18", "size": 128, "batch": 32, "photos": "small"},
    {"objective": "mae", "backbone": "vit_tiny_patch16_224", "size": 224, "batch": 64, "photos": "small"},
    {"objective": "simclr", "backbone": "resnet18", "size": 128, "batch": 32, "photos": "12 megapixels"},
]
OPTIONS: dict[str, dict[str, Any]] = {"simclr": {}, "dino": {"prototypes": 2048}, "mae": {}}
VIEWS: dict[str, dict[str, Any]] = {"simclr": {}, "dino": {"crops": {"share": 0.5}}, "mae": {}}
MATRIX = 2048
PREFETCHED = 4  # batches that two workers have ready before the first step
IN_A_ROW = 6


class Ours:
    """A user's run, one step at a time."""

    def __init__(self, case: dict[str, Any], folder: Path) -> None:
        name, quiet = case["objective"], Console(quiet=True)
        recipe = Pretrain(
            data=str(folder),
            backbone=case["backbone"],
            weights="none",
            size=case["size"],
            batch=case["batch"],
            objective={"name": name, **OPTIONS[name]},
            views=VIEWS[name],
            cache="ram",
            steps=10**6,
        )
        began = time.perf_counter()
        ready: Prepared = prepare(recipe, quiet, labelled=False)
        self.decoding, self.images = time.perf_counter() - began, len(ready.table)
        self.objective, data, _ = build(recipe, ready)
        self.run = Run(self.objective, data, recipe, torch.device("cpu"))
        with fast_depthwise(self.objective):
            self.run.begin(None)
        self.model, self.batches = self.run.wrap(), self.run.batches()

    def step(self) -> None:
        """One optimizer step."""
        with fast_depthwise(self.objective):
            self.run.advance(self.model, self.batches)

    def gigaflops(self) -> float:
        """Multiplications and additions of a step."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        return float(counter.get_total_flops()) / 1e9


def measure(case: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """One row: both sides and the matrix product, in turn."""
    ours = Ours(case, folder)
    dtype = torch.bfloat16 if ours.run.precision.bf16 else torch.float32
    left, right = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
    peer = getattr(lightly_loops, case["objective"])
    alone = peer(case["backbone"], case["size"], case["batch"], folder, workers=0)
    steps = {"ours": ours.step, "product": lambda: left @ right, "lightly": alone.step}
    seconds = medians(interleave(steps, rounds))
    helped = peer(case["backbone"], case["size"], case["batch"], folder, workers=2)
    in_a_row = interleave({"step": helped.step}, IN_A_ROW, warmup=PREFETCHED)["step"]
    two = statistics.mean(in_a_row)  # the mean: steps that wait for the workers count as much as those that do not
    rate = 2 * MATRIX**3 / seconds["product"] / 1e9
    mine, other = case["batch"] / seconds["ours"], case["batch"] / min(seconds["lightly"], two)
    ten = 10 * ours.images
    return case | {
        "ours_img_s": round(mine, 2),
        "lightly_img_s": round(other, 2),
        "speedup_vs_lightly": round(mine / other, 2),
        "lightly_0_workers_img_s": round(case["batch"] / seconds["lightly"], 2),
        "lightly_2_workers_img_s": round(case["batch"] / two, 2),
        "matmul_share": round(ours.gigaflops() / seconds["ours"] / rate, 3),
        "matmul_gflop_s": round(rate),
        "precision": str(ours.run.precision),
        "decode_once_s": round(ours.decoding, 2),
        "speedup_10_epochs": round((ten / other) / (ten / mine + ours.decoding), 2),
    }


def main() -> None:
    """Measure every case and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folders = {"small": Path(place) / "small", "12 megapixels": Path(place) / "large"}
        elpv_jpegs(folders["small"], 1024)
        elpv_jpegs(folders["12 megapixels"], 96, PHOTO)
        for case in CASES:
            rows.append(measure(case, folders[case["photos"]], words.rounds))
            print(rows[-1], flush=True)
            path = write("pretrain_step", rows, f"python -m benchmarks.speed.pretrain_step --rounds {words.rounds}")
    print(path)  # written after every row: an interruption costs one row, not all


if __name__ == "__main__":
    main()
