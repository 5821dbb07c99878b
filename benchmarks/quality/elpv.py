"""The quickstart's protocol on the ELPV solar cells, three seeds: every stage with its interval.

python -m benchmarks.quality.elpv [--seeds 3]

Defective when the probability is above 0.5; 75/25 split stratified by label and cell type, another split for each
seed. Intervals are 95 % bootstrap over the test images of one split; the spread over seeds is in the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import write
from visionft.journeys.quickstart import quickstart
from visionft.recipe import Quickstart


def rows_of(seed: int, folder: Path) -> list[dict[str, Any]]:
    """Run the quickstart with one seed."""
    began = time.perf_counter()
    quickstart(Quickstart(seed=seed, out=str(folder)))
    minutes = (time.perf_counter() - began) / 60
    stages = json.loads((folder / "stages.json").read_text())
    return [
        {
            "stage": name,
            "seed": seed,
            "accuracy": round(m["accuracy"], 4),
            "ci_low": round(m["accuracy_low"], 4),
            "ci_high": round(m["accuracy_high"], 4),
            "auroc": round(m["auroc"], 4),
            "recall_mono": round(m["recall/mono"], 4),
            "recall_poly": round(m["recall/poly"], 4),
            "minutes_of_the_whole_run": round(minutes, 2),
        }
        for name, m in stages.items()
    ]


def main() -> None:
    """All seeds, and the mean and standard deviation over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(words.seeds):
            rows += rows_of(seed, Path(place) / str(seed))
    for stage in dict.fromkeys(row["stage"] for row in rows):
        values = [row["accuracy"] for row in rows if row["stage"] == stage]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{stage:<32} {statistics.mean(values):.4f} +- {spread:.4f}")
    print(write("elpv", rows, f"python -m benchmarks.quality.elpv --seeds {words.seeds}"))


if __name__ == "__main__":
    main()
