"""Our SimCLR, DINO and MAE against lightly's: the same steps on the same photos, judged by the same kNN and probe.

python -m benchmarks.quality.peer_quality DATA [--objectives simclr mae] [--steps 300] [--seeds 3]

DATA is anything labelled; both sides train from random weights on the training photos, without labels. Each keeps the
settings of its own examples and defaults. Rows with `side` difference hold ours less lightly's, with intervals over
seeds and test images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from benchmarks.quality.rivals import Case, Judged, Photos, bounded, judge, lightly, ours
from visionft.evaluation.bootstrap import crossed
from visionft.kernels import keep_memory
from visionft.recipe import Optim

CASES = {
    "simclr": Case("simclr", "resnet18", 64),
    "dino": Case("dino", "resnet18", 64),
    "mae": Case("mae", "vit_tiny_patch16_224", 96),
}


def pair(case: Case, words: argparse.Namespace, seed: int, place: Path) -> dict[str, Judged]:
    """Both sides with one seed: what they are worth."""
    photos = Photos.of(words.data, case.size, place / f"photos-{case.objective}-{seed}")
    file, folder = place / f"{case.objective}-{seed}.safetensors", place / f"{case.objective}-{seed}"
    theirs, _ = lightly(case, photos, words.steps, seed, file)
    mine, _ = ours(case, photos, folder, steps=words.steps, seed=seed, optim=Optim(lr=words.lr))
    return {side: judge(net, photos.ready, case.size) for side, net in (("lightly", theirs), ("ours", mine))}


def rows_of(case: Case, words: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """A row for every seed and side, and their difference."""
    base = {"data": Path(words.data).name, **vars(case), "steps": words.steps}
    rows: list[dict[str, Any]] = []
    hits: dict[tuple[str, str], list[np.ndarray]] = {}
    for seed in range(words.seeds):
        for side, judged in pair(case, words, seed, place).items():
            rows.append(base | {"side": side, "seed": seed} | judged.row())
            print(rows[-1], flush=True)
            for name, right in judged.hits.items():
                hits.setdefault((side, name), []).append(right)
    difference = base | {"side": "difference", "seeds": words.seeds}
    for name in ("knn", "probe"):
        difference |= bounded(name, *crossed(np.array(hits["ours", name]) - np.array(hits["lightly", name])))
    print(difference, flush=True)
    return [*rows, difference]


def main() -> None:
    """Every objective in turn; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--objectives", nargs="+", default=["simclr", "mae"], choices=[*CASES])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    words = parser.parse_args()
    keep_memory()
    asked = f"--steps {words.steps} --seeds {words.seeds} --lr {words.lr}"
    with tempfile.TemporaryDirectory() as place:
        for name in words.objectives:
            command = f"python -m benchmarks.quality.peer_quality {Path(words.data).name} --objectives {name} {asked}"
            print(write("peer_quality", rows_of(CASES[name], words, Path(place)), command, by="objective"))


if __name__ == "__main__":
    main()
