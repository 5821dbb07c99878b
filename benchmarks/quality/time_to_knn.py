"""Wall time to the kNN accuracy that lightly's own loop reaches after its full budget.

python -m benchmarks.quality.time_to_knn DATA [--weights none] [--epochs 10] [--budgets 0.15 0.25] [--grow 1]

DATA is anything labelled; both sides pretrain on the same training photos (JPEG files, without labels) from the same
start, each alone on the machine. lightly's loop runs its epochs; ours runs once for every budget, a share of lightly's
seconds, schedules and all, and once for every value of --grow. Our seconds include reading and decoding files and
writing the report, not imports. The features of both are judged by the same kNN and linear probe on the same test
photos; rows are means over seeds with intervals over seeds and photos, `gain` is the kNN accuracy less lightly's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from benchmarks.quality.rivals import Case, Judged, Photos, bounded, judge, lightly, ours
from visionft import backbones
from visionft.evaluation.bootstrap import crossed
from visionft.kernels import keep_memory
from visionft.recipe import Optim

Key = tuple[str, float, float]  # side, budget, grow
START, LIGHTLY = ("start", 0.0, 1.0), ("lightly", 1.0, 1.0)


@dataclass(frozen=True)
class Seen:
    """What one side was worth after its seconds."""

    seconds: float
    judged: Judged


def measure(case: Case, words: argparse.Namespace, place: Path, seed: int) -> Iterator[tuple[Key, Seen]]:
    """The start, lightly's full budget, and ours for shares of it."""
    photos = Photos.of(words.data, case.size, place / f"photos-{seed}")
    start = backbones.load(case.backbone, case.weights, size=case.size)
    yield START, Seen(0.0, judge(start, photos.ready, case.size))
    steps = words.epochs * (len(photos) // case.batch)
    theirs, full = lightly(case, photos, steps, seed, place / f"{seed}.safetensors")
    yield LIGHTLY, Seen(full, judge(theirs, photos.ready, case.size))
    for grow in words.grow:
        for budget in sorted(words.budgets):
            recipe = {"minutes": budget * full / 60, "grow": grow, "optim": Optim(lr=words.lr), "seed": seed}
            mine, seconds = ours(case, photos, place / f"ours-{seed}-{budget}-{grow}", **recipe)
            yield ("ours", budget, grow), Seen(seconds, judge(mine, photos.ready, case.size))


def rows_of(seen: dict[Key, list[Seen]]) -> list[dict[str, Any]]:
    """A row for every side, budget and `grow`, over seeds; the last one says what was gained."""
    hits = {
        key: {name: np.array([s.judged.hits[name] for s in some]) for name in ("knn", "probe")}
        for key, some in seen.items()
    }
    rows = []
    for (side, budget, grow), some in seen.items():
        row: dict[str, Any] = {"side": side, "budget": budget, "grow": grow, "seeds": len(some)}
        row["seconds"] = round(statistics.mean(s.seconds for s in some), 1)
        for name, told in hits[side, budget, grow].items():
            row |= bounded(name, *crossed(told))
        rows.append(row | bounded("gain", *crossed(hits[side, budget, grow]["knn"] - hits[LIGHTLY]["knn"])))
    return [*rows, summary(rows)]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The speedup to lightly's kNN and probe; null where no budget sufficed, or where its loop gained nothing."""
    start, theirs = (next(row for row in rows if row["side"] == side) for side in ("start", "lightly"))
    found = {"lightly_s": theirs["seconds"]}
    for name, prefix in (("knn", ""), ("probe", "probe_")):
        learnt = theirs[name] > start[name]
        enough = [row["seconds"] for row in rows if row["side"] == "ours" and row[name] >= theirs[name]]
        best = min(enough, default=None) if learnt else None
        why = "" if best else "no budget sufficed" if learnt else "lightly's loop gained nothing over the start"
        speedup = round(theirs["seconds"] / best, 2) if best else None
        found |= {f"{prefix}ours_s": best, f"{prefix}speedup": speedup, f"{prefix}why": why}
    return found


def main() -> None:
    """One start and data set, several seeds; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--objective", default="simclr")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.15, 0.25])
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--grow", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seeds", type=int, default=1)
    words = parser.parse_args()
    keep_memory()
    case, data = Case(words.objective, words.backbone, words.size, words.batch, words.weights), Path(words.data).name
    budgets, grow = (" ".join(f"{value:g}" for value in values) for values in (words.budgets, words.grow))
    command = (
        f"python -m benchmarks.quality.time_to_knn {data} --backbone {words.backbone} --weights {words.weights} "
        f"--size {words.size} --epochs {words.epochs} --budgets {budgets} --lr {words.lr:g} --grow {grow} "
        f"--seeds {words.seeds}"
    )
    base = {"case": f"{data}, {words.backbone}, weights={words.weights}", "data": data, **vars(case)}
    seen: dict[Key, list[Seen]] = {}
    with tempfile.TemporaryDirectory() as place:
        for seed in range(words.seeds):
            for key, value in measure(case, words, Path(place), seed):
                seen.setdefault(key, []).append(value)
                print(seed, key, f"{value.seconds:.1f} s", value.judged.row(), flush=True)
            rows = [base | row for row in rows_of(seen)]
            print(rows[-1], write("time_to_knn", rows, command, by="case"), flush=True)


if __name__ == "__main__":
    main()
