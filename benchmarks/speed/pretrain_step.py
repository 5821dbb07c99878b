"""Images per second of pretraining, from files on disk to the optimizer step: ours, lightly's loops, LightlyTrain.

python -m benchmarks.speed.pretrain_step [--rounds 9] [--threads 2] [--grid [NETWORK...]] [--lightly-train PYTHON]

PYTHON is that of an environment in which lightly-train and timm are installed; it steps in turn with the others where
it has the method (`lightlytrain_img_s`). --grid measures methods x sizes for the networks that are named, or for all
(an hour and more), instead, writes pretrain_grid.json, and goes on where it was. Rows of other processors stay.

Both sides get the same files, model, batch, image size, crops and threads, live in processes of their own and step in
turn, without workers: workers would load lightly's next batches, and take a core, while ours is being timed. What two
workers gain for lightly is measured afterwards, alone, over steps in a row (`lightly_2_workers_img_s`); its better one
counts. Ours decodes once (`decode_once_s`, not in `ours_img_s`; `speedup_10_epochs` pays for it over ten epochs) and
chooses its arithmetic as a user's run would. `matmul_share` is the rate of the step's own multiplications (fp32 or
bf16, as chosen) over that of a plain matrix product, timed in the same rounds. `first_step_s` starts with the
interpreter: imports, looking at every file, decoding, measuring precision, one step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import earlier, interleave, machine, medians, write
from benchmarks.images import PHOTO, elpv_jpegs
from benchmarks.peers.lightlytrain import METHODS
from benchmarks.speed.contestant import DEVICE, settle
from benchmarks.turns import Contestant

CASES: list[dict[str, Any]] = [
    {"objective": "simclr", "backbone": "resnet18", "size": 128, "batch": 64, "photos": "small"},
    {"objective": "dino", "backbone": "resnet18", "size": 128, "batch": 32, "photos": "small"},
    {"objective": "mae", "backbone": "vit_tiny_patch16_224", "size": 224, "batch": 64, "photos": "small"},
    {"objective": "simclr", "backbone": "resnet18", "size": 128, "batch": 32, "photos": "12 megapixels"},
    {"objective": "simclr", "backbone": "resnet18", "size": 64, "batch": 64, "photos": "12 megapixels"},
]
GRID: list[dict[str, Any]] = [  # MAE and, in lightly, SimMIM and DINOv2 are for ViTs
    {"objective": objective, "backbone": backbone, "size": size, "batch": 32, "photos": "small"}
    for backbone in ("resnet18", "vit_tiny_patch16_224", "vit_small_patch16_224")
    for objective in ("simclr", "dino", "dinov2", "mae", "simmim")
    for size in (64, 96, 224)
    if backbone.startswith("vit") or objective in ("simclr", "dino")
]
MATRIX, PRODUCTS = 2048 if DEVICE.type == "cpu" else 8192, 8  # several in a row: the first after a pause is slow
PREFETCHED = 4  # batches that two workers have ready before the first step
IN_A_ROW = 6


def measure(case: dict[str, Any], folder: Path, rounds: int, threads: int, python: str | None) -> dict[str, Any]:
    """One row: all sides and the matrix product, in turn."""
    start = partial(_start, case=case, folder=folder, threads=threads)
    with ExitStack() as stack:
        ours, lightly = (stack.enter_context(start(side)) for side in ("ours", "lightly-0"))
        third = python is not None and case["objective"] in METHODS
        train = stack.enter_context(start("lightlytrain", python=python)) if third else None
        facts = ours.facts()
        kind = torch.bfloat16 if facts["bf16"] else torch.float32
        left, right = (torch.randn(MATRIX, MATRIX).to(DEVICE, kind) for _ in "ab")
        out = torch.empty_like(left)  # else each product would fault in its pages anew
        products = partial(_repeat, lambda: torch.mm(left, right, out=out))
        steps: dict[str, Callable[[], object]] = {"ours": ours, "product": products, "lightly": lightly}
        seconds = medians(interleave(steps | ({"lightlytrain": train} if train else {}), rounds))
        sides = {"ours": facts, "lightly": lightly.facts(), **({"lightlytrain": train.facts()} if train else {})}
        peaks = {f"{side}_{key}": said[key] for side, said in sides.items() for key in said if key.startswith("peak")}
        firsts = {"ours_first_step_s": ours.first_step, "lightly_first_step_s": lightly.first_step}
        if train:
            firsts["lightlytrain_first_step_s"] = train.first_step
    with start("lightly-2") as helped:
        two = statistics.mean(interleave({"step": helped}, IN_A_ROW, warmup=PREFETCHED)["step"])  # waits count, too
    rate = PRODUCTS * 2 * MATRIX**3 / seconds["product"] / 1e9
    mine, other = case["batch"] / seconds["ours"], case["batch"] / min(seconds["lightly"], two)
    ten = 10 * facts["images"]
    return case | {
        "ours_img_s": round(mine, 2),
        "lightly_img_s": round(other, 2),
        "speedup_vs_lightly": round(mine / other, 2),
        **_against(mine, case["batch"] / seconds["lightlytrain"] if train else None),
        "lightly_0_workers_img_s": round(case["batch"] / seconds["lightly"], 2),
        "lightly_2_workers_img_s": round(case["batch"] / two, 2),
        "matmul_share": round(facts["gigaflops"] / seconds["ours"] / rate, 3),
        "matmul_gflop_s": round(rate),
        "precision": facts["precision"],
        "decode_once_s": facts["decode_once_s"],
        "speedup_10_epochs": round((ten / other) / (ten / mine + facts["decode_once_s"]), 2),
        **peaks,
        **{name: round(value, 1) for name, value in firsts.items()},
    }


def _against(mine: float, third: float | None) -> dict[str, float]:
    if third is None:
        return {}
    return {"lightlytrain_img_s": round(third, 2), "speedup_vs_lightlytrain": round(mine / third, 2)}


def _repeat(product: Callable[[], object]) -> None:
    for _ in range(PRODUCTS):
        product()
    settle()


def _start(side: str, *, case: dict[str, Any], folder: Path, threads: int, python: str | None = None) -> Contestant:
    module = "benchmarks.peers.lightlytrain" if python else "benchmarks.speed.contestant"
    return Contestant(module, side, json.dumps(case), str(folder), str(threads), python=python or sys.executable)


def main() -> None:
    """Measure every case and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grid", nargs="*", metavar="NETWORK")
    parser.add_argument("--lightly-train", metavar="PYTHON")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    grid = words.grid is not None
    more = " ".join([" --grid", *words.grid]) if grid else ""
    third = " --lightly-train PYTHON" if words.lightly_train else ""
    command = f"python -m benchmarks.speed.pretrain_step --rounds {words.rounds}{more}{third}"
    name = ("pretrain_grid" if grid else "pretrain_step") + ("" if DEVICE.type == "cpu" else "_gpu")
    cases = [case for case in GRID if not words.grid or case["backbone"] in words.grid] if grid else CASES
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folders = {"small": Path(place) / "small", "12 megapixels": Path(place) / "large"}
        elpv_jpegs(folders["small"], 1024)
        elpv_jpegs(folders["12 megapixels"], 96, PHOTO)
        known = {row["case"] for row in earlier(name)} if grid else set()
        for case in cases:
            which = f"{case['objective']} {case['backbone']} {case['size']}, {case['photos']}, {machine()['cpu']}"
            if which in known:
                continue
            row = measure(case, folders[case["photos"]], words.rounds, words.threads, words.lightly_train)
            rows.append({"case": which, **row})
            print(rows[-1], flush=True)
            print(write(name, rows, command, by="case"))  # after every row: an interruption costs one, not all


if __name__ == "__main__":
    main()
