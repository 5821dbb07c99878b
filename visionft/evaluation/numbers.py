"""How good are predicted numbers? MAE, RMSE, R² and Spearman's rank correlation, with bootstrap intervals."""

from __future__ import annotations

import numpy as np

from visionft.arrays import Floats

from .bootstrap import bounded


def of_numbers(said: Floats, truth: Floats, *, resamples: int = 1000) -> dict[str, float]:
    """Measure N predicted numbers against the true ones; mae, rmse, r2, spearman with `_low` and `_high`.

    R² is 1 - squared error / squared distance from the mean of these very images, so that the best constant has 0.
    What is not defined, as R² and Spearman of equal numbers, is left out.
    """
    error = said - truth
    ranks = Midranks(said), Midranks(truth)

    def mean(values: Floats, counts: Floats) -> Floats:
        found: Floats = counts @ values / counts.sum(axis=1)
        return found

    def r2(counts: Floats) -> Floats:
        spread = mean((truth - truth.mean()) ** 2, counts) - mean(truth - truth.mean(), counts) ** 2
        wide = spread > 1e-12 * max(float(truth.var()), 1e-300)
        return np.where(wide, 1 - mean(error**2, counts) / np.where(wide, spread, 1), np.nan)

    found = bounded("mae", lambda counts: mean(np.abs(error), counts), len(truth), resamples)
    found |= bounded("rmse", lambda counts: np.sqrt(mean(error**2, counts)), len(truth), resamples)
    found |= bounded("r2", r2, len(truth), resamples)
    return found | bounded("spearman", lambda counts: spearman(*ranks, counts), len(truth), resamples)


class Midranks:
    """Ranks of N numbers, equal ones sharing their mean rank, when each was drawn so many times."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        self.back = np.argsort(self.order, kind="stable")
        ordered = values[self.order]
        self.first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self.size = np.diff(np.append(self.first, len(values)))

    def __call__(self, counts: Floats) -> Floats:
        """R N counts -> R N ranks."""
        drawn = np.add.reduceat(counts[:, self.order], self.first, axis=1)
        rank = drawn.cumsum(axis=1) - (drawn - 1) / 2
        return np.repeat(rank, self.size, axis=1)[:, self.back]


def spearman(said: Midranks, truth: Midranks, counts: Floats) -> Floats:
    """R: the correlation of ranks; nan where either side is constant."""
    n = counts.sum(axis=1, keepdims=True)
    a, b = (rank(counts) - (n + 1) / 2 for rank in (said, truth))  # a rank's mean is that whatever is tied
    joint, left, right = ((counts * x * y).sum(axis=1) for x, y in ((a, b), (a, a), (b, b)))
    norm = np.sqrt(left * right)
    found: Floats = np.divide(joint, norm, out=np.full_like(joint, np.nan), where=norm > 0)
    return found


def held(error: Floats, half: float, *, resamples: int = 1000) -> dict[str, float]:
    """The share of numbers within `half` of what was said: coverage, with its 95 % interval."""
    within = (np.abs(error) <= half).astype(np.float64)
    return bounded("coverage", lambda counts: counts @ within / len(within), len(within), resamples)
