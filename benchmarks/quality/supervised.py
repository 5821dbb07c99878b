"""What would labels give at best? Networks that are fine-tuned on them, asked what the inspection is asked.

python -m benchmarks.quality.supervised [--seeds 3] [--epochs 15] [--folds 3]

Solar cells, dealt as by `benchmarks.quality.defects_curve`: monocrystalline, 441 flawless ones to fit, 100 defects to
learn from, all others the test, where any probability of a defect is one. `same` is `visionft finetune` (224 px, a
probe's head, then all layers, mean over mirror images) on those 541 labels, `all` the same on every label there is,
both types of cells: of as many networks as there are folds each answers for the cells that were kept from it. Both are
judged on the test images of the inspector with 100 labels, whose row is in defects_curve.json.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import visionft as vf
from benchmarks.harness import earlier, write
from benchmarks.quality.defects_curve import judged
from benchmarks.quality.inspection import BACKBONE, WEIGHTS, Photos, cells, photos

NAME, DEFECTS = "supervised", 100


def probabilities(train: Mapping[str, bool], asked: Sequence[str], seed: int, epochs: float) -> dict[str, float]:
    """File -> how probably it is defective, by a network that learnt from others."""
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "labels.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["path", "label"])
            out.writerows((name, "defective" if bad else "good") for name, bad in train.items())
        vf.finetune(
            str(table), backbone=BACKBONE, weights=WEIGHTS, size=224, tune="probe-then-full", policy="inspection",
            flips=True, epochs=epochs, patience=0, test=0, seed=seed, out=f"{place}/run", report=False, quiet=True,
        )  # fmt: skip
        answers: Any = vf.load(f"{place}/run").predict(list(asked))
        return {name: one.probabilities["defective"] for name, one in zip(asked, answers, strict=True)}


def same(some: Photos, seed: int, words: argparse.Namespace) -> dict[str, float]:
    """By the labels that the inspector has."""
    known = dict.fromkeys(some.good, False) | dict.fromkeys(some.defects, True)
    return probabilities(known, some.test, seed, words.epochs)


def every(some: Photos, seed: int, words: argparse.Namespace) -> dict[str, float]:
    """By all labels, each image judged by the network that it was kept from."""
    truth = {name: share > 0 for name, (share, _) in cells().items()}
    fold = dict(zip(truth, np.random.default_rng(seed).permutation(len(truth)) % words.folds, strict=True))
    found: dict[str, float] = {}
    for own in range(words.folds):
        known = {name: bad for name, bad in truth.items() if fold[name] != own}
        found |= probabilities(known, [name for name in some.test if fold[name] == own], seed, words.epochs)
    return found


def main() -> None:
    """Every seed and share of the labels that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--folds", type=int, default=3)
    words = parser.parse_args()
    for seed in range(words.seeds):
        some = photos("elpv", seed, None, DEFECTS)
        for labels, ask in {"same": same, "all": every}.items():
            case = f"elpv, {labels} labels, seed {seed}"
            if any(row["case"] == case for row in earlier(NAME)):
                continue
            told, folds = ask(some, seed, words), words.folds if labels == "all" else 1
            row = {"case": case, "data": "elpv", "labels": labels, "seed": seed, "epochs": words.epochs,
                   "folds": folds, **judged(np.array([told[name] for name in some.test]), some)}  # fmt: skip
            print(row, flush=True)
            write(NAME, [row], f"python -m benchmarks.quality.supervised --epochs {words.epochs:g}", by="case")


if __name__ == "__main__":
    main()
