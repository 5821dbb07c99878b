"""How far would a number move on another draw of the same size? Percentile bootstrap intervals, vectorised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS = 1 << 20  # drawn at once: 8 MB of counts


def bootstrap(
    statistic: Callable[[Floats], Floats], n: int, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Bound a statistic that maps how often each of n samples was drawn, R n, to R values.

    Resamples on which it is undefined (nan) are dropped; (nan, nan) if those are all.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS // n)
    values = [statistic(_counts(rng, min(rows, resamples - done), n)) for done in range(0, resamples, rows)]
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(rng: np.random.Generator, rows: int, n: int) -> Floats:
    """Draw n of n with replacement, `rows` times: how often each was drawn, R n."""
    cells = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
