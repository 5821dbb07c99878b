"""The ELPV solar cells over seeds: every stage of the quickstart, fine-tuning at 224 px, every rung of the ladder.

python -m benchmarks.quality.elpv [--parts quickstart finetune ladder] [--seeds 3] [--first 0] [--epochs 20]

Defective when the probability is above 0.5, which for these labels (0, 1/3, 2/3, 1) is Song 2024's p >= 0.67, too;
75/25 split stratified by label and cell type, another split for each seed, the same for all parts. Intervals are 95 %
bootstrap over the test images of one split; the spread over seeds is in the rows. Fine-tuning (a probe's head, then
all layers, batch norms frozen) and the ladder answer with the mean over an image and its three mirror images; training
runs to its end. Which rung is kept is decided on validation images, 15 % of the three quarters.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import write
from visionft.data.prepare import Prepared, dealt, prepare
from visionft.journeys.ladder import climb
from visionft.journeys.quickstart import quickstart
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.run import finetune
from visionft.verbs import Quickstart

PARTS = ("quickstart", "finetune", "ladder")


def main() -> None:
    """All seeds, and the mean and standard deviation over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed; those before it may have been done earlier")
    parser.add_argument("--epochs", type=float, default=20, help="of one network at 224 px")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--all", action="store_true", help="take every rung, also where the one before did not pay")
    words = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(words.first, words.seeds):
            if "quickstart" in words.parts:
                rows += quickstart_rows(seed, Path(place) / f"quickstart-{seed}")
            if "finetune" in words.parts:
                rows += finetune_rows(seed, Path(place) / f"finetune-{seed}", words)
            if "ladder" in words.parts:
                rows += ladder_rows(seed, Path(place) / f"ladder-{seed}", words)
            said = f"--parts {' '.join(words.parts)} --seeds {words.seeds} --epochs {words.epochs:g}"
            said += f" --size {words.size} --backbone {words.backbone}{' --all' if words.all else ''}"
            print(write("elpv", rows, f"python -m benchmarks.quality.elpv {said}", by="case"), f"after seed {seed}")
    for stage in dict.fromkeys(row["stage"] for row in rows):
        values = [row["accuracy"] for row in rows if row["stage"] == stage]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{stage:<40} {statistics.mean(values):.4f} +- {spread:.4f}  ({len(values)} seeds)")


def quickstart_rows(seed: int, folder: Path) -> list[dict[str, Any]]:
    """Run the quickstart with one seed."""
    began = time.perf_counter()
    quickstart(Quickstart(seed=seed, out=str(folder)))
    minutes = (time.perf_counter() - began) / 60
    stages = json.loads((folder / "stages.json").read_text())
    return [row(name, seed, m, minutes) for name, m in stages.items()]


def finetune_rows(seed: int, folder: Path, words: argparse.Namespace) -> list[dict[str, Any]]:
    """One network, fine-tuned as a user would."""
    recipe, ready = _begun(seed, folder, words, tune="probe-then-full")
    done = finetune(recipe, prepared=ready)
    minutes, name = done.seconds / 60, f"{words.backbone.removeprefix('tf_')}, {words.size} px"
    return [
        row(f"probe, {name}", seed, done.metrics["probe"], minutes),
        row(f"fine-tuned {words.epochs:g} epochs, {name}", seed, done.metrics["finetuned"], minutes),
    ]


def _begun(seed: int, folder: Path, words: argparse.Namespace, tune: str) -> tuple[Finetune, Prepared]:
    recipe = Finetune(
        data="sample:elpv",
        backbone=words.backbone,
        size=words.size,
        tune=tune,
        policy="inspection",
        flips=True,
        epochs=words.epochs,
        patience=0,
        seed=seed,
        out=str(folder),
    )
    return recipe, dealt(prepare(recipe, Console(), labelled=True), seed)


def ladder_rows(seed: int, folder: Path, words: argparse.Namespace) -> list[dict[str, Any]]:
    """Climb with one seed."""
    recipe, ready = _begun(seed, folder, words, tune="auto:all" if words.all else "auto")
    done = climb(recipe, prepared=ready)
    minutes = done.seconds / 60
    name = f"ladder, {words.backbone.removeprefix('tf_')}, {words.size} px"
    rows = [row(f"{name}: chosen", seed, done.metrics["finetuned"], minutes)]
    for rung in json.loads((folder / "run.json").read_text())["ladder"]:
        other = done.metrics["probe"] if rung["rung"] == "probe" else done.metrics.get(f"rung: {rung['rung']}")
        m = done.metrics["finetuned"] if rung["chosen"] else other
        assert m is not None
        validation = {"validation_loss": round(rung["loss"], 4), "gain": rung["gain"], "chosen": rung["chosen"]}
        rows.append(
            row(f"{name}: {rung['rung']}", seed, m, minutes) | {"minutes": round(rung["minutes"], 2)} | validation
        )
    return rows


def row(stage: str, seed: int, m: Mapping[str, float], minutes: float) -> dict[str, Any]:
    """One stage of one seed on its test images."""
    keys = {"accuracy": "accuracy", "ci_low": "accuracy_low", "ci_high": "accuracy_high", "auroc": "auroc",
            "accuracy_mono": "accuracy/mono", "accuracy_poly": "accuracy/poly",
            "recall_mono": "recall/mono", "recall_poly": "recall/poly"}  # fmt: skip
    numbers = {key: round(m[name], 4) for key, name in keys.items()}
    told = {"case": f"{stage}, seed {seed}", "stage": stage, "seed": seed}
    return {**told, **numbers, "minutes_of_the_whole_run": round(minutes, 2)}


if __name__ == "__main__":
    main()
