"""Few photos of each kind: is this cloth good? 50 good, 25 locally and 25 globally defective ones to learn from.

python -m benchmarks.quality.textile_fewshot [--splits 10] [--threads 2]

The sizes of a published comparison of CLIP-like networks on the same photos (`conformal-clip-data`; its splits cannot
be had): 50 + 25 + 25 exemplars, 50 + 25 + 25 to calibrate, of which we use none, and 50 + 25 + 25 to test. The best
that it reports for CLIP ViT-L/14 is an accuracy of .96. A split is drawn anew; the decision is that of the inspector
when a false alarm costs as much as an escape and half of the parts are defective, chosen on the 100 photos alone.
`accuracy` is that on the 100 test photos, `accuracy_others` that on all 1,900 photos that were not learnt from, as if
both classes were as many. The summary's interval is Student's, of the mean over splits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks.harness import write
from visionft.data.samples import textile
from visionft.evaluation.ranking import auroc
from visionft.inspection.inspector import Inspector

EXEMPLARS, TEST = (50, 25, 25), (50, 25, 25)  # good, local, global
COSTS = {"escape": 1, "overkill": 1, "defects": 0.5}
PUBLISHED = 0.96  # accuracy of CLIP ViT-L/14


def split(labels: np.ndarray, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Places of exemplars by kind, of test photos, and of all that are not exemplars."""
    rng = np.random.default_rng(seed)
    kinds = [rng.permutation(np.flatnonzero(labels == kind)) for kind in range(3)]
    learnt = [own[:count] for own, count in zip(kinds, EXEMPLARS, strict=True)]
    test = [own[a : a + b] for own, a, b in zip(kinds, EXEMPLARS, TEST, strict=True)]
    return learnt, np.concatenate(test), np.concatenate([own[a:] for own, a in zip(kinds, EXEMPLARS, strict=True)])


def measured(files: Sequence[str], labels: np.ndarray, seed: int) -> dict[str, Any]:
    """A row: learn from the exemplars of a split, and judge all others."""
    (good, *bad), test, others = split(labels, seed)
    began = time.perf_counter()
    words: dict[str, Any] = {"false_reject": 0.05, "border": 2, "quiet": True}
    inspector = Inspector.fit([files[at] for at in good], **words)
    defects = [files[at] for own in bad for at in own]
    inspector.add_defects(defects, good=[files[at] for at in good], costs=COSTS, quiet=True)
    learnt = time.perf_counter() - began
    verdicts: Any = inspector.predict([files[at] for at in others])
    scores, truth = np.array([one.score for one in verdicts]), labels[others] > 0
    right = np.array([one.reject for one in verdicts]) == truth
    tested = np.isin(others, test)
    balanced = (right[truth].mean() + right[~truth].mean()) / 2
    return {
        "case": f"split {seed}", "split": seed, "accuracy": round(float(right[tested].mean()), 4),
        "sensitivity": round(float(right[tested & truth].mean()), 4),
        "specificity": round(float(right[tested & ~truth].mean()), 4),
        "auroc": round(auroc(scores[tested], truth[tested]), 4), "accuracy_others": round(float(balanced), 4),
        "auroc_others": round(auroc(scores, truth), 4), "false_reject": round(inspector.promise.false_reject, 4),
        "weights": [round(one, 3) for one in inspector.panel.weights], "learn_seconds": round(learnt, 1),
        "predict_ms": round(1000 * (time.perf_counter() - began - learnt) / len(others), 2),
    }  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The means over splits, with intervals of 95 %."""
    found: dict[str, Any] = {"case": "mean", "splits": len(rows), "published": PUBLISHED}
    for key, prefix in (("accuracy", ""), ("accuracy_others", "others_")):
        values = np.array([row[key] for row in rows])
        half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
        mean = float(values.mean())
        found |= {
            key: round(mean, 4),
            f"{prefix}ci_low": round(mean - half, 4),
            f"{prefix}ci_high": round(mean + half, 4),
        }
    return found | {key: round(float(np.mean([row[key] for row in rows])), 4) for key in ("auroc", "learn_seconds")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Every split, then their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    table = textile()
    files, labels = [record.name for record in table], np.array(table.labels)
    rows = []
    for seed in range(words.splits):
        rows.append(measured(files, labels, seed))
        print(rows[-1], flush=True)
    print(write("textile_fewshot", [summary(rows), *rows], "python -m benchmarks.quality.textile_fewshot"))


if __name__ == "__main__":
    main()
