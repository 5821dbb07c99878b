"""What do labelled defects add? AUROC on the same test images after none, 6, 10, 20, 50 and 100 of them.

python -m benchmarks.quality.defects_curve DATA... [--seeds 3] [--labels 6 10 20 50 100] [--shared FOLDER]

DATA are those of `benchmarks.quality.inspection`, dealt as there: the good images to fit are the same, and the test
images are those that are there without the defects to learn from, which are as many of every kind; fewer of them are
the first of more. There is no row of five: an inspector refuses to choose by fewer than six. The gain is over the
inspector that knows no defect, with a bootstrap interval over test images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import earlier, write
from benchmarks.quality.inspection import BORDER, FITTED, Photos, photos
from benchmarks.quality.inspection_ssl import gain
from visionft.arrays import Floats
from visionft.data.cache import cached
from visionft.data.prepare import Chosen
from visionft.data.sources import read
from visionft.evaluation.ranking import auroc, auroc_interval
from visionft.inspection.inspector import Inspector
from visionft.inspection.learn import FOLDS
from visionft.inspection.mixed import Candidates
from visionft.inspection.panel import Panel
from visionft.log import Console

NAME, LABELS = "defects_curve", (6, 10, 20, 50, 100)


def scores(panel: Panel, photos: Sequence[np.ndarray]) -> Floats:
    """Of photos, as a panel judges them."""
    return np.array([seen.score for seen in panel.see(photos)])


def judged(found: Floats, some: Photos) -> dict[str, float]:
    """AUROC with its interval, and by kind."""
    truth, kinds = some.defective, np.array(some.kinds)
    low, high = auroc_interval(found, truth)
    row = {"auroc": round(auroc(found, truth), 4), "auroc_low": round(low, 4), "auroc_high": round(high, 4)}
    for kind in sorted(set(kinds[truth])):
        own = ~truth | (kinds == kind)
        row[f"auroc/{kind}"] = round(auroc(found[own], truth[own]), 4)
    return row


def curve(data: str, seed: int, labels: Sequence[int], shared: Path | None) -> None:
    """The rows of a data set and seed that are not there yet."""
    cases = {n: f"{data}, {n} defects, seed {seed}" for n in (0, *labels)}
    known = {row["case"] for row in earlier(NAME)}
    if known >= set(cases.values()):
        return
    some, quiet = photos(data, seed, shared, max(labels)), Console(quiet=True)
    words: dict[str, Any] = {"false_reject": 0.01, "border": BORDER.get(data, 0)}
    blank = Inspector.fit(some.good, quiet=True, **words)
    good, test, bad = (cached(read(files, labelled=False), **blank.images, store="ram")
                       for files in (some.good, some.test, some.defects))  # fmt: skip
    candidates, base = Candidates.of(blank.panel, good, FOLDS, quiet), scores(blank.panel, test)
    for n, case in cases.items():
        if case in known:
            continue
        panel = candidates.taught(Chosen(bad, range(n)), quiet)[0] if n else blank.panel
        names, found = [type(eye.scorer).__name__.lower() for eye in panel.eyes], scores(panel, test)
        row = {"case": case, "data": data, "labels": n, "seed": seed, "fitted": len(some.good),
               "tested": len(some.test), **judged(found, some), **gain(found, base, some.defective), "eyes": names,
               "weights": [round(weight, 3) for weight in panel.weights]}  # fmt: skip
        write(NAME, [row], f"python -m benchmarks.quality.defects_curve {data}", by="case")
        print(row, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=[*FITTED])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="+", default=[*LABELS])
    parser.add_argument("--shared", type=Path)
    words = parser.parse_args(arguments)
    for seed in range(words.seeds):
        for data in words.data:
            curve(data, seed, words.labels, words.shared)


if __name__ == "__main__":
    main()
