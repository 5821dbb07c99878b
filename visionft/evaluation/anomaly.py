"""How well do scores tell defects from good parts, image by image and pixel by pixel?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from visionft.arrays import Bools, Floats

from .ranking import Ranked

LEVELS = 4096  # thresholds that pixels are counted at
LIMIT = 0.3  # false positive rate up to which PRO is averaged


def f1_max(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[float, float]:
    """The best F1 of any threshold (scores N, labels N of 0 and 1) and that threshold; (nan, nan) without positives.

    It looks at the labels it is judged by: a number to compare methods with, not one to expect on the line.
    """
    truth = np.asarray(labels, np.int64)
    if not truth.any():
        return float("nan"), float("nan")
    ranked = Ranked(np.asarray(scores, np.float64), truth)
    hits, wrong = (side[0].cumsum() for side in ranked.tallies(ranked.once))
    f1 = 2 * hits / (hits + wrong + truth.sum())
    best = int(f1.argmax())
    return float(f1[best]), float(ranked.thresholds[best])


class Pixels:
    """Pixel AUROC and AUPRO of many maps in the memory of a few histograms.

    Scores are counted at LEVELS thresholds between `low` and `high`; both numbers are exact but for ties within a
    level. Maps come one at a time, each with its mask.
    """

    def __init__(self, low: float, high: float) -> None:
        self.edges = np.linspace(low, high, LEVELS - 1)
        self.good, self.bad = np.zeros(LEVELS), np.zeros(LEVELS)
        self.regions: list[Floats] = []

    def add(self, scores: Floats, mask: Bools) -> None:
        """One map (H W) and where the defects are (H W)."""
        level = np.digitize(scores, self.edges)
        self.good += np.bincount(level[~mask], minlength=LEVELS)
        self.bad += np.bincount(level[mask], minlength=LEVELS)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for region in range(1, count):
            own = np.bincount(level[labels == region], minlength=LEVELS)
            self.regions.append(own / own.sum())

    def auroc(self) -> float:
        """The chance that a defect's pixel outranks a good one, ties counting half; nan if either is absent."""
        if not (self.good.any() and self.bad.any()):
            return float("nan")
        below = self.good.cumsum() - self.good / 2
        return float((self.bad * below).sum() / (self.bad.sum() * self.good.sum()))

    def aupro(self, limit: float = LIMIT) -> float:
        """Mean share of each connected defect that is found, averaged over false positive rates from 0 to `limit`.

        Bergmann et al. 2021 (MVTec AD), normalised to [0, 1]; nan without a defect or without good pixels.
        """
        if not (self.regions and self.good.any()):
            return float("nan")
        fpr = _from_above(self.good) / self.good.sum()
        found = _from_above(np.mean(self.regions, axis=0))
        at = np.append(fpr[fpr < limit], limit)
        reached = np.interp(at, fpr, found)
        return float(((reached[1:] + reached[:-1]) / 2 * np.diff(at)).sum() / limit)


def _from_above(counts: Floats) -> Floats:
    """How much lies at each threshold or above, the highest first, beginning with nothing."""
    return np.append(0.0, counts[::-1].cumsum())


def span(maps: Sequence[Floats]) -> tuple[float, float]:
    """The smallest and the largest score of some maps."""
    return min(float(one.min()) for one in maps), max(float(one.max()) for one in maps)
