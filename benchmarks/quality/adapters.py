"""What adapters and tuning tables reach on solar cells (ELPV) in the same number of steps, three seeds.

    python -m benchmarks.quality.adapters [--networks tf_efficientnet_lite0] [--seeds 3] [--steps 120]

The test images are the same in every run; seeds differ in what is drawn while training. The CNN starts from ImageNet
weights that a package brings. No package brings any of a ViT: it starts from a short distillation of that CNN on the
training images, so its rows compare methods and say nothing of pretrained ViTs. Rates are the usual ones (1e-4 for all
weights, 1e-3 for few) and not chosen on these images. Finished runs in --out are not done again. Rows go into
results/adapters.json, beside what steps cost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from benchmarks.quality.rivals import bounded
from benchmarks.speed.adapters import METHODS
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.evaluation.bootstrap import crossed
from visionft.kernels import keep_memory
from visionft.log import Console
from visionft.pretraining.run import pretrain
from visionft.recipe import Finetune, Optim, Pretrain
from visionft.tasks.run import finetune

DATA = "sample:elpv"
TEACHER = "package:efficientnet-lite0"
FULL, FEW = 1e-4, 1e-3  # learning rates
TUNED = {"full": "probe-then-full", "probe": "probe"}  # by name, where the speed of a step needs no probe's head


@dataclass(frozen=True)
class Case:
    """A network, its size, and the methods that are compared on it."""

    network: str
    size: int
    weights: str
    methods: tuple[str, ...]


COMMON = ("probe", "full", "lora", "lora, last third", "ssf", "bias")
CASES = (
    Case("tf_efficientnet_lite0", 128, TEACHER, COMMON),
    Case("vit_tiny_patch16_224", 96, "distilled", (*COMMON, "qlora nf4", "prompts")),
)


def photos(size: int) -> Prepared:
    """The solar cells, a quarter of them set apart for the test."""
    return dealt(prepare(Finetune(data=DATA, size=size, cache="ram"), Console(quiet=True), labelled=True), 0)


def start(case: Case, ready: Prepared, out: Path, steps: int) -> dict[str, Any]:
    """Where the network's weights come from; a distillation sees the training images only."""
    if case.weights != "distilled":
        return {"backbone": case.network, "weights": case.weights}
    run = out / f"start-{case.network}-{steps}"
    if not (run / "run.json").is_file():
        seen = [record.image for record in ready.table if record.split == "train"]
        objective = {"name": "distill", "weights": TEACHER}
        recipe = Pretrain(
            data=seen, backbone=case.network, weights="none", size=case.size, objective=objective, steps=steps,
            out=str(run),
        )  # fmt: skip
        pretrain(recipe, console=Console(quiet=True))
    return {"backbone": str(run)}


def hits(
    case: Case, method: str, seed: int, ready: Prepared, begin: dict[str, Any], words: argparse.Namespace
) -> np.ndarray:
    """Which test images a fine-tuned network tells right, N of 0 and 1."""
    run = words.out / f"{case.network}-{method.replace(', ', '-').replace(' ', '-')}-{words.steps}-{seed}"
    file = run / "hits.json"
    if not file.is_file():
        how = METHODS[method] | ({"tune": TUNED[method]} if method in TUNED else {})
        recipe = Finetune(
            data=DATA, size=case.size, steps=words.steps, batch=32, patience=0, eval_every=words.steps, seed=seed,
            optim=Optim(lr=FULL if method == "full" else FEW), out=str(run), **begin, **how,
        )  # fmt: skip
        done = finetune(recipe, console=Console(quiet=True), prepared=ready)
        right = done.probabilities["finetuned"].argmax(1) == done.test.labels
        file.write_text(json.dumps(right.int().tolist()))
    return np.array(json.loads(file.read_text()), dtype=np.float64)


def rows_of(case: Case, words: argparse.Namespace) -> list[dict[str, Any]]:
    """Accuracy of every method and how far it is from full training, with intervals over seeds and test images."""
    ready = photos(case.size)
    begin = start(case, ready, words.out, words.pretrain_steps)
    found: dict[str, list[np.ndarray]] = {method: [] for method in case.methods}
    for seed in range(words.seeds):
        for method in case.methods:
            found[method].append(hits(case, method, seed, ready, begin, words))
            print(case.network, method, seed, found[method][-1].mean(), flush=True)
    full, rows = np.array(found["full"]), []
    distilled = f"distilled from tf_efficientnet_lite0 in {words.pretrain_steps} steps"
    begun = distilled if case.weights == "distilled" else case.weights
    for method, each in found.items():
        right = np.array(each)
        row = {
            "table": f"accuracy {case.network}", "network": case.network, "size": case.size, "method": method,
            "data": DATA, "steps": words.steps, "seeds": words.seeds,
            "start": begun,
        }  # fmt: skip
        rows.append(row | bounded("accuracy", *crossed(right)) | bounded("over_full", *crossed(right - full)))
        print(rows[-1], flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Every network in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.network for case in CASES]
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"))
    words = parser.parse_args(arguments)
    words.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    for case in (case for case in CASES if case.network in words.networks):
        command = f"python -m benchmarks.quality.adapters --networks {case.network}"
        said = f"{command} --seeds {words.seeds} --steps {words.steps} --pretrain-steps {words.pretrain_steps}"
        print(write("adapters", rows_of(case, words), said, by="table"))


if __name__ == "__main__":
    main()
