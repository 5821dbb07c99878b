"""How good are predicted levels? Accuracy, within one, mean distance and quadratic kappa, with bootstrap intervals."""

from __future__ import annotations

import numpy as np

from visionft.arrays import Floats, Ints

from .bootstrap import bounded


def of_levels(said: Ints, truth: Ints, *, resamples: int = 1000) -> dict[str, float]:
    """Measure N predicted levels against the true ones; `_low` and `_high` bound 95 % intervals.

    Keys: accuracy, within_one, mae (in levels) and kappa: Cohen's with quadratic weights, 0 for what chance would say
    that knows how frequent each level is on either side; it is left out where both sides are one and the same level.
    """
    away = np.abs(said - truth).astype(np.float64)
    marks = {"accuracy": away == 0, "within_one": away <= 1, "mae": away}
    found: dict[str, float] = {}
    for name, values in marks.items():
        found |= bounded(name, lambda counts, v=values: counts @ v / counts.sum(axis=1), len(truth), resamples)  # type: ignore[misc]
    return found | bounded("kappa", lambda counts: quadratic_kappa(said, truth, counts), len(truth), resamples)


def quadratic_kappa(said: Ints, truth: Ints, counts: Floats) -> Floats:
    """R: 1 - mean squared distance / what it would be if the two sides were independent of each other."""
    n = counts.sum(axis=1)
    p, y = said.astype(np.float64), truth.astype(np.float64)
    apart = counts @ (p - y) ** 2 / n
    chance = (counts @ (p**2 + y**2) - 2 * (counts @ p) * (counts @ y) / n) / n
    kappa: Floats = 1 - np.divide(apart, chance, out=np.full_like(apart, np.nan), where=chance > 0)
    return kappa
