"""How well do scores put positives before negatives? ROC, AUROC and average precision, ties and bootstrap included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from visionft.arrays import Bools, Floats
from visionft.evaluation.bootstrap import bootstrap

if TYPE_CHECKING:
    from torch import Tensor


def roc_curve(scores: Tensor | Floats, labels: Tensor | npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """False and true positive rate at each distinct threshold, falling from infinity; scores N, labels N of 0 and 1.

    Without positives the true positive rate is nan, without negatives the false one.
    """
    ranked = Ranked(scores, labels)
    positives, negatives = ranked.tallies(ranked.once)
    tpr, fpr = (np.append(0.0, _ratio(side[0].cumsum(), side.sum(axis=1))) for side in (positives, negatives))
    return fpr, tpr, np.append(np.inf, ranked.thresholds)


def auroc(scores: Tensor | Floats, labels: Tensor | npt.NDArray[np.int64]) -> float:
    """The chance that a positive outranks a negative, ties counting half; nan if either is absent."""
    ranked = Ranked(scores, labels)
    return float(ranked.auroc(ranked.once)[0])


def average_precision(scores: Tensor | Floats, labels: Tensor | npt.NDArray[np.int64]) -> float:
    """Precision averaged over the recall that each threshold adds; nan without positives."""
    ranked = Ranked(scores, labels)
    return float(ranked.average_precision(ranked.once)[0])


def auroc_interval(
    scores: Tensor | Floats, labels: Tensor | npt.NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the AUROC; the sort is done once, not once per resample."""
    ranked = Ranked(scores, labels)
    return bootstrap(ranked.auroc, len(ranked.order), resamples=resamples, seed=seed)


class Ranked:
    """Samples by falling score, equal scores being one threshold; its statistics take how often each was drawn, R N."""

    def __init__(self, scores: Tensor | Floats, labels: Tensor | npt.NDArray[np.int64]) -> None:
        falling = -np.asarray(scores, dtype=np.float64)
        self.order = np.argsort(falling, kind="stable")
        self.positive: Bools = np.asarray(labels)[self.order] == 1
        falling = falling[self.order]
        self.first = np.flatnonzero(np.append(True, falling[1:] != falling[:-1]))
        self.thresholds = -falling[self.first]
        self.once = np.ones((1, len(falling)))

    def tallies(self, counts: Floats) -> tuple[Floats, Floats]:
        """Positives and negatives at each of U thresholds, R U."""
        counts = counts[:, self.order]
        positives = np.add.reduceat(counts * self.positive, self.first, axis=1)
        return positives, np.add.reduceat(counts, self.first, axis=1) - positives

    def auroc(self, counts: Floats) -> Floats:
        positives, negatives = self.tallies(counts)
        all_positives, all_negatives = positives.sum(axis=1), negatives.sum(axis=1)
        below = all_negatives[:, None] - negatives.cumsum(axis=1)
        wins = (positives * (below + negatives / 2)).sum(axis=1)
        return _ratio(wins, all_positives * all_negatives)

    def average_precision(self, counts: Floats) -> Floats:
        positives, negatives = self.tallies(counts)
        hits, drawn = positives.cumsum(axis=1), (positives + negatives).cumsum(axis=1)
        gained = (positives * hits / drawn.clip(1)).sum(axis=1)  # before the first draw there are no hits either
        return _ratio(gained, positives.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide; nan where there is nothing to divide by."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
