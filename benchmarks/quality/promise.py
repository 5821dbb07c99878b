"""Is the promise kept? Over many draws of good images, how many of the other good images does the threshold reject?

python -m benchmarks.quality.promise [--runs 200] [--data elpv "elpv, patches" "elpv, places" textile]

A run draws the good images that an inspector is fitted to, at random, and counts what it rejects of all other good
images of the data set: the monocrystalline solar cells with a defect probability of 0, and the flawless cloth. What the
eyes see of every image is computed once; the inspectors then learn from that. A promise on average is kept when the
mean rate is at most the budget, and its bound when at most 5 % of runs exceed it; a promise with 95 % confidence when
at most 5 % of runs exceed the budget. Other good images are a sample too: `share_expected` is how often their rate lies
above the bound where the promise is kept exactly (their rejects are then beta-binomial), to stand beside the plain
`share_exceeded`; `share_proven` is the share of runs whose rate is above by more than that sample's chance (one-sided
binomial test at 5 %).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import betabinom, binomtest
from torch import Tensor

from benchmarks.harness import write
from visionft import backbones
from visionft.backbone import Backbone
from visionft.data.cache import cached
from visionft.data.decode import Reading
from visionft.data.prepare import Chosen
from visionft.data.records import Table
from visionft.data.samples import elpv, textile
from visionft.inspection.eye import Eye
from visionft.inspection.eyes import eye
from visionft.inspection.inspector import Inspector
from visionft.inspection.panel import Panel
from visionft.inspection.promise import Promise
from visionft.inspection.sight import Sight
from visionft.inspection.stream import stream
from visionft.log import Console

EYES: dict[str, list[Any]] = {  # scorers of all kinds, at a resolution that leaves time for hundreds of runs
    "textile": ["grain"], "elpv": [{"name": "whole", "scale": 0.5}],
    "elpv, patches": [{"name": "patches", "scale": 0.5, "scorer": {"name": "neighbours", "most": 500}}],
    "elpv, places": [{"name": "places", "scale": 0.5}],
}  # fmt: skip
READ = Reading(channels=3, white=255)
CASES = ((100, 0.01, None), (200, 0.05, None), (299, 0.01, 0.95), (200, 0.05, 0.95))  # good images, budget, confidence


@dataclass(frozen=True)
class Given(Sight):
    """Its images are what another sight has seen of them."""

    def patches(self, backbone: Backbone, tiles: Tensor) -> Tensor:
        """B D h w -> B h w D."""
        return tiles.movedim(1, -1)


def good(data: str) -> Table:
    """The flawless images of a data set."""
    if data.startswith("textile"):
        table = textile()
        return table.take(at for at, record in enumerate(table) if record.label == 0)
    table = elpv()
    file = next(parent for parent in table[0].image.parents if (parent / "labels.csv").is_file()) / "labels.csv"  # type: ignore[union-attr]
    shares = [float(line.split()[1]) for line in file.read_text().splitlines() if line.strip()]
    return table.take(at for at, record in enumerate(table) if record.group == "mono" and not shares[at])


def seen(table: Table, one: Eye, backbone: Backbone) -> list[np.ndarray]:
    """What an eye's sight makes of every image, h w D."""
    found: dict[int, np.ndarray] = {}
    for patches, owners in stream([one.sight], backbone, cached(table, store="ram")):
        found |= {owner.at: own for owner, own in zip(owners, patches[one.sight].numpy(), strict=True)}
    return [found[at] for at in range(len(table))]


def rates(data: str, n: int, budget: float, confidence: float | None, runs: int) -> dict[str, Any]:
    """A row: what the thresholds of many draws reject."""
    table, backbone = good(data), backbones.load("tf_efficientnet_lite0", "package:efficientnet-lite0").eval()
    eyes = [eye(choice) for choice in EYES[data]]
    images = seen(table, eyes[0], backbone)
    shares, bounds, proven = [], [], 0
    for run in range(runs):
        order = np.random.default_rng(run).permutation(len(table)).tolist()
        fresh = [Eye(Given("bands", tile=10_000), Eye.of(one.facts()).scorer, one.top) for one in eyes]
        inspector = Inspector.learn(
            Panel(backbone, fresh), Chosen(images, order[:n]), budget, READ, Console(quiet=True), confidence=confidence
        )
        scores = [one.score for one in inspector.panel.see(Chosen(images, order[n:]))]
        rejected = int(inspector.promise.rejects(scores).sum())
        limit = budget if confidence else inspector.promise.bound
        shares.append(rejected / len(scores))
        bounds.append(limit)
        proven += binomtest(rejected, len(scores), limit, "greater").pvalue < 0.05
    exceeded = np.array(shares) > np.array(bounds)
    return {
        "case": f"{data}, {n} good, budget {budget}, {'on average' if confidence is None else f'{confidence} sure'}",
        "data": data, "good": n, "others": len(table) - n, "budget": budget, "confidence": confidence, "runs": runs,
        "mean_rate": round(float(np.mean(shares)), 5), "limit": round(float(bounds[0]), 5), "stated": 0.05,
        "share_exceeded": round(float(exceeded.mean()), 4),
        "share_expected": expected(n, len(table) - n, budget, confidence, bounds[0]),
         "share_proven": round(float(proven) / runs, 4),
        "share_above_budget": round(float((np.array(shares) > budget).mean()), 4),
    }  # fmt: skip


def expected(n: int, others: int, budget: float, confidence: float | None, limit: float) -> float:
    """How often more than `limit` of others are rejected where scores of n good images and of others are alike."""
    rank = Promise(np.arange(n, dtype=float), budget, confidence).rank
    return round(float(betabinom.sf(np.floor(limit * others + 1e-9), others, n + 1 - rank, rank)), 4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set and case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--data", nargs="+", default=[*EYES], choices=[*EYES])
    words = parser.parse_args(arguments)
    for data in words.data:
        for n, budget, confidence in CASES:
            row = rates(data, n, budget, confidence, words.runs)
            print(row, flush=True)
            write("promise", [row], "python -m benchmarks.quality.promise", by="case")


if __name__ == "__main__":
    main()
