"""Wall time to the kNN accuracy that lightly's own loop reaches after its full budget.

python -m benchmarks.quality.time_to_knn DATA [--backbone resnet18] [--size 64] [--epochs 10] [--budgets 0.125 0.25 0.5]

DATA is anything labelled; both sides pretrain on the same training photos (JPEG files, without labels) from the same
start, each alone on the machine. lightly's loop runs its epochs; ours runs once for every budget, a share of lightly's
seconds, schedules and all. Our seconds include reading and decoding files and writing the report, not imports. The
features of both are judged by the same kNN and linear probe on the same test photos.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import write
from benchmarks.quality.rivals import Case, Photos, judge, lightly, ours
from visionft import backbone as backbones
from visionft.kernels import keep_memory
from visionft.recipe import Optim


def measure(case: Case, words: argparse.Namespace, place: Path, seed: int) -> list[dict[str, Any]]:
    """The start, lightly's full budget, ours for shares of it, and the smallest that sufficed."""
    photos = Photos.of(words.data, case.size, place / f"photos-{seed}")
    base = {"data": Path(words.data).name, **vars(case), "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(side: str, seconds: float, backbone: Any, **more: Any) -> None:
        judged = judge(backbone, photos.ready, case.size).row()
        rows.append(base | {"side": side, "seconds": round(seconds, 1), **more, **judged})
        print(rows[-1], flush=True)

    add("start", 0.0, backbones.load(case.backbone, case.weights, size=case.size))
    theirs, full = lightly(
        case, photos, words.epochs * (len(photos) // case.batch), seed, place / f"{seed}.safetensors"
    )
    add("lightly", full, theirs, budget=1.0)
    for budget in sorted(words.budgets):
        recipe = {"minutes": budget * full / 60, "grow": words.grow, "optim": Optim(lr=words.lr), "seed": seed}
        mine, seconds = ours(case, photos, place / f"ours-{seed}-{budget}", **recipe)
        add("ours", seconds, mine, budget=budget)
    return [*rows, base | summary(rows)]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The speedup; null where no budget sufficed, or where lightly's loop gained nothing over the start."""
    start, theirs = (next(row for row in rows if row["side"] == side) for side in ("start", "lightly"))
    learnt = theirs["knn"] > start["knn"]
    enough = [row["seconds"] for row in rows if row["side"] == "ours" and row["knn"] >= theirs["knn"]]
    best = min(enough, default=None) if learnt else None
    why = "" if best else "no budget sufficed" if learnt else "lightly's loop gained nothing over the start"
    speedup = round(theirs["seconds"] / best, 2) if best else None
    return {"lightly_s": theirs["seconds"], "ours_s": best, "speedup": speedup, "why": why}


def main() -> None:
    """One start and data set, several seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--objective", default="simclr")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.125, 0.25, 0.5])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--grow", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    words = parser.parse_args()
    keep_memory()
    case = Case(words.objective, words.backbone, words.size, words.batch, words.weights)
    command = (
        f"python -m benchmarks.quality.time_to_knn {Path(words.data).name} --backbone {words.backbone} --weights "
        f"{words.weights} --size {words.size} --epochs {words.epochs} --lr {words.lr:g} --grow {words.grow:g}"
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(words.seeds):
            rows += measure(case, words, Path(place), seed)
            print(rows[-1], flush=True)
            print(write("time_to_knn", rows, command, by="data"))


if __name__ == "__main__":
    main()
