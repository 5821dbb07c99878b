"""What the recipes in configs/pretrain/ cost on this machine, and what their features are worth before and after.

python -m benchmarks.quality.recipes DATA [--recipes dino_vit_tiny mae_vit_tiny ...] [--weights none] [--seeds 1]

DATA is anything labelled; each recipe is run as its file says on the training photos, without labels, from --weights
(random ones by default: those of a hub need a network). Before and after, the same kNN and linear probe on frozen
features judge the same test photos, with intervals over seeds and photos; `gain` is after less before.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from benchmarks.quality.rivals import Judged, Photos, bounded, judge
from visionft import backbones, config
from visionft.evaluation.bootstrap import crossed
from visionft.kernels import keep_memory
from visionft.log import Console, read_metrics
from visionft.pretraining.run import pretrain
from visionft.recipe import Pretrain

FOLDER = Path(__file__).parent.parent.parent / "configs" / "pretrain"
RECIPES = ("dino_vit_tiny", "mae_vit_tiny", "simclr_resnet18")


def once(name: str, data: str, weights: str, seed: int, place: Path) -> tuple[Judged, Judged, dict[str, float]]:
    """What frozen features are worth before and after one run of a recipe; its seconds and steps."""
    words = {"weights": weights, "seed": seed, "out": str(place / "run")}
    recipe = config.load(Pretrain, FOLDER / f"{name}.yaml", words)
    photos = Photos.of(data, recipe.size, place / "photos")
    start = backbones.load(recipe.backbone, recipe.weights, size=recipe.size)
    before = judge(start, photos.ready, recipe.size)
    began = time.perf_counter()
    made = pretrain(dataclasses.replace(recipe, data=str(photos.folder)), console=Console(quiet=True))
    seconds = time.perf_counter() - began
    after = judge(made.backbone, photos.ready, recipe.size)
    steps = max(int(row["step"]) for row in read_metrics(made.out / "metrics.jsonl"))
    return before, after, {"seconds": seconds, "steps": steps, "epochs": steps * recipe.batch / len(photos)}


def row_of(name: str, words: argparse.Namespace) -> dict[str, Any]:
    """A recipe over seeds."""
    hits: dict[tuple[str, str], list[np.ndarray]] = {}
    costs: list[dict[str, float]] = []
    for seed in range(words.seeds):
        with tempfile.TemporaryDirectory() as place:
            before, after, cost = once(name, words.data, words.weights, seed, Path(place))
        costs.append(cost)
        for side, judged in (("before", before), ("after", after)):
            for kind, right in judged.hits.items():
                hits.setdefault((side, kind), []).append(right)
        print(name, seed, cost, before.row(), after.row(), flush=True)
    row: dict[str, Any] = {"recipe": name, "data": Path(words.data).name, "weights": words.weights}
    row |= {key: round(statistics.mean(cost[key] for cost in costs), 1) for key in costs[0]} | {"seeds": words.seeds}
    for kind in ("knn", "probe"):
        first, last = (np.array(hits[side, kind]) for side in ("before", "after"))
        row |= bounded(f"{kind}_before", *crossed(first)) | bounded(f"{kind}_after", *crossed(last))
        row |= bounded(f"{kind}_gain", *crossed(last - first))
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Every recipe in turn; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--weights", default="none")
    parser.add_argument("--seeds", type=int, default=1)
    words = parser.parse_args(arguments)
    keep_memory()
    command = f"python -m benchmarks.quality.recipes {Path(words.data).name} --weights {words.weights} "
    for name in words.recipes:
        print(write("recipes", [row_of(name, words)], f"{command}--recipes {name} --seeds {words.seeds}", by="recipe"))


if __name__ == "__main__":
    main()
