"""How good are flags that an image may have any number of? Ranking and F1, flag by flag, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionft.arrays import Floats

from .bootstrap import bounded
from .ranking import Ranked


def of_flags(
    p: Floats, truth: Floats, names: Sequence[str], cuts: Sequence[float], *, resamples: int = 1000
) -> dict[str, float]:
    """Measure probabilities (N F) against flags (N F of 0, 1, and nan where unknown), set from `cuts` (F) on.

    Keys: NAME/average_precision, NAME/auroc, NAME/f1, each with `_low` and `_high`; with several names also
    mean_average_precision and mean_f1, over the flags that have positives. What is not defined is left out.
    """
    found: dict[str, float] = {}
    ranked, n = [], len(truth)
    for at, (name, cut) in enumerate(zip(names, cuts, strict=True)):
        known = np.flatnonzero(np.isfinite(truth[:, at]))
        if not len(known):
            continue
        one = Flag(p[known, at], truth[known, at], cut, known)
        ranked.append(one)
        found |= bounded(f"{name}/average_precision", one.average_precision, n, resamples)
        found |= bounded(f"{name}/auroc", one.auroc, n, resamples)
        found |= bounded(f"{name}/f1", one.f1, n, resamples)
    if len(names) > 1 and ranked:
        found |= bounded(
            "mean_average_precision", lambda c: _mean([r.average_precision(c) for r in ranked]), n, resamples
        )
        found |= bounded("mean_f1", lambda c: _mean([r.f1(c) for r in ranked]), n, resamples)
    return found


class Flag:
    """One flag of the images at these places; its statistics take how often each of all images was drawn, R N."""

    def __init__(self, p: Floats, truth: Floats, cut: float, places: np.ndarray) -> None:
        self.ranked, self.places = Ranked(p, truth.astype(np.int64)), places
        self.set, self.truth = (p >= cut).astype(np.float64), truth

    def average_precision(self, counts: Floats) -> Floats:
        return self.ranked.average_precision(counts[:, self.places])

    def auroc(self, counts: Floats) -> Floats:
        return self.ranked.auroc(counts[:, self.places])

    def f1(self, counts: Floats) -> Floats:
        """nan where there are no positives to find."""
        c = counts[:, self.places]
        hits, there = c @ (self.set * self.truth), c @ self.truth
        return np.divide(2 * hits, c @ self.set + there, out=np.full_like(hits, np.nan), where=there > 0)


def best_cut(p: Floats, truth: Floats) -> float:
    """The cut of probabilities with the best F1; half-way to the next lower probability, 0.5 without both sides."""
    if not 0 < truth.sum() < len(truth):
        return 0.5
    ranked = Ranked(p, truth.astype(np.int64))
    positives, negatives = (side[0].cumsum() for side in ranked.tallies(ranked.once))
    best = int((2 * positives / (positives + negatives + truth.sum())).argmax())
    below = ranked.thresholds[best + 1] if best + 1 < len(ranked.thresholds) else 0.0
    return float((ranked.thresholds[best] + below) / 2)


def tuned_cut(p: Floats, truth: Floats, *, folds: int = 5, seed: int = 0) -> float:
    """The best cut, if cuts chosen on other images have a better F1 than 0.5 has; else 0.5. N and N, all known."""
    if min(truth.sum(), len(truth) - truth.sum()) < folds:
        return 0.5
    order = np.random.default_rng(seed).permutation(len(truth))
    fold = np.empty(len(truth), np.int64)
    fold[order[np.argsort(truth[order], kind="stable")]] = np.arange(len(truth)) % folds
    told = np.concatenate([p[fold == f] >= best_cut(p[fold != f], truth[fold != f]) for f in range(folds)])
    there = np.concatenate([truth[fold == f] for f in range(folds)])
    return best_cut(p, truth) if _f1(told, there) > _f1(p >= 0.5, truth) else 0.5


def _f1(told: np.ndarray, truth: Floats) -> float:
    return float(2 * (told * truth).sum() / (told.sum() + truth.sum()))


def _mean(values: Sequence[Floats]) -> Floats:
    """Over those that are defined; nan where none is."""
    all_ = np.stack(values)
    there = np.isfinite(all_)
    count = there.sum(axis=0)
    total = np.where(there, all_, 0).sum(axis=0)
    found: Floats = np.divide(total, count, out=np.full(all_.shape[1], np.nan), where=count > 0)
    return found
