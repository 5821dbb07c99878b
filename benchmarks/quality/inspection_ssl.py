"""Does self-supervision on the factory's own photos help inspection? ImageNet features, ours, and both together.

python -m benchmarks.quality.inspection_ssl DATA... [--objectives densecl simclr dino] [--minutes 2] [--seeds 3]
    [--shared FOLDER]

DATA are those of `benchmarks.quality.inspection`, dealt as there. The photos to pretrain on are the good ones that the
inspector is fitted to, without any test image; pretraining goes on from the ImageNet weights, with its defaults, for so
many minutes. `share` is how far from these weights to its last ones pretraining itself chose to go, without labels:
where it is 0 the features are those of ImageNet. `both` is the mean of the two inspectors' scores, each in standard
deviations of its good photos. The gain over ImageNet features is on the same test images, with a bootstrap interval
over these.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import visionft as vf
from benchmarks.harness import earlier, write
from benchmarks.quality.inspection import BACKBONE, BORDER, FITTED, WEIGHTS, Photos, photos
from visionft.arrays import Floats
from visionft.evaluation.ranking import auroc

NAME, RESAMPLES = "inspection_ssl", 1000


def scores(data: str, some: Photos, **words: Any) -> Floats:
    """Of the test photos, in standard deviations of good ones held out."""
    inspector = vf.Inspector.fit(some.good, false_reject=0.01, border=BORDER.get(data, 0), quiet=True, **words)
    verdicts: Any = inspector.predict(some.test)
    held = inspector.promise.scores
    found: Floats = (np.array([one.score for one in verdicts]) - held.mean()) / held.std()
    return found


def gain(ours: Floats, base: Floats, truth: np.ndarray) -> dict[str, float]:
    """Of AUROC, with a percentile interval over images, drawn within good ones and defects."""
    rng, drawn = np.random.default_rng(0), list[float]()
    parts = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    for _ in range(RESAMPLES):
        at = np.concatenate([rng.choice(part, len(part)) for part in parts])
        drawn.append(auroc(ours[at], truth[at]) - auroc(base[at], truth[at]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = auroc(ours, truth) - auroc(base, truth)
    return {"gain": round(value, 4), "gain_low": round(float(low), 4), "gain_high": round(float(high), 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set, seed and objective that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=[*FITTED])
    parser.add_argument("--objectives", nargs="+", default=["densecl", "simclr", "dino"])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path)
    words = parser.parse_args(arguments)
    for data in words.data:
        for seed in range(words.seeds):
            some = photos(data, seed, words.shared, 0)
            base: Floats | None = None
            for objective in words.objectives:
                case = f"{data}, {objective}, seed {seed}"
                if any(row["case"] == case for row in earlier(NAME)):
                    continue
                base = scores(data, some) if base is None else base
                row = {"case": case, "data": data, "objective": objective, "seed": seed, "minutes": words.minutes,
                       **measured(data, some, base, objective, seed, words.minutes)}  # fmt: skip
                print(row, flush=True)
                write(
                    NAME,
                    [row],
                    f"python -m benchmarks.quality.inspection_ssl {data} --minutes {words.minutes:g}",
                    "case",
                )


def measured(data: str, some: Photos, base: Floats, objective: str, seed: int, minutes: float) -> dict[str, Any]:
    """Pretrain on the good photos, fit on those features, and judge the test photos."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "pre"
        done = vf.pretrain(some.good, backbone=BACKBONE, weights=WEIGHTS, objective=objective, minutes=minutes,
                           seed=seed, out=str(run), quiet=True)  # fmt: skip
        own, truth = scores(data, some, backbone=str(run)), some.defective
    both = (own + base) / 2
    return {
        "share": done.share, "auroc_imagenet": round(auroc(base, truth), 4), "auroc": round(auroc(own, truth), 4),
        **gain(own, base, truth), "auroc_both": round(auroc(both, truth), 4),
        **{f"both_{key}": value for key, value in gain(both, base, truth).items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
