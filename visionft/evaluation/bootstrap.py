"""How far would a number move on another draw of the same size? Percentile bootstrap intervals, vectorised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from visionft.arrays import Floats

Bounded = tuple[float, float, float]  # a value and its interval
DRAWS = 1 << 20  # drawn at once: 8 MB of counts


def bootstrap(
    statistic: Callable[[Floats], Floats], n: int, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Bound a statistic that maps how often each of n samples was drawn, R n, to R values.

    Resamples on which it is undefined (nan) are dropped; (nan, nan) if those are all.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(_counts(rng, rows, n)) for rows in _portions(resamples, max(1, DRAWS // n))]
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_of(values: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0) -> Bounded:
    """Mean of one value a sample, N, and its interval."""
    exact = np.asarray(values, np.float64)
    low, high = bootstrap(lambda counts: counts @ exact / len(exact), len(exact), resamples=resamples, seed=seed)
    return float(exact.mean()), low, high


def named(name: str, found: Bounded) -> dict[str, float]:
    """A value under its name, and its interval as `_low`, `_high`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def bounded(name: str, statistic: Callable[[Floats], Floats], n: int, resamples: int = 1000) -> dict[str, float]:
    """A statistic of how often each of n samples was drawn, and its interval; nothing where it is not defined."""
    value = float(statistic(np.ones((1, n)))[0])
    if np.isnan(value):
        return {}
    return named(name, (value, *bootstrap(statistic, n, resamples=resamples)))


def crossed(hits: Floats, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of S n values and its interval when both the S runs and the n images might have been others.

    The images are common to all runs, so their luck does not average out over runs: rows and columns are drawn anew,
    independently of each other. Values may be differences of two contestants, image by image and run by run.
    """
    runs, n = hits.shape
    rng = np.random.default_rng(seed)
    means = [
        ((_counts(rng, rows, runs) @ hits) * _counts(rng, rows, n)).sum(1) / (runs * n)
        for rows in _portions(resamples, max(1, DRAWS // n))
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(hits.mean()), float(low), float(high)


def _portions(total: int, at_once: int) -> list[int]:
    return [min(at_once, total - done) for done in range(0, total, at_once)]


def _counts(rng: np.random.Generator, rows: int, n: int) -> Floats:
    """Draw n of n with replacement, `rows` times: how often each was drawn, R n."""
    cells = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
