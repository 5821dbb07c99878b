"""95 % intervals of shares that were counted: one share (Wilson) and the difference of two (Newcombe)."""

from __future__ import annotations

import math
from typing import overload

import numpy as np

from visionft.arrays import Floats

Z = 1.959964  # of a normal distribution, two-sided 95 %


@overload
def wilson(share: float, count: float) -> tuple[float, float]: ...
@overload
def wilson(share: Floats, count: Floats) -> tuple[Floats, Floats]: ...
def wilson(share: float | Floats, count: float | Floats) -> tuple[float | Floats, float | Floats]:
    """The score interval of a binomial share (Wilson 1927); unlike the normal one it stays inside 0 to 1.

    A share of nothing (count 0) may be anything.
    """
    n = np.maximum(count, 1e-12)
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(share * (1 - np.asarray(share)) / n + Z * Z / (4 * n**2)) / (1 + Z * Z / n)
    low, high = np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)  # rounding must not exclude 0 and 1
    return (float(low), float(high)) if np.ndim(share) == 0 else (low, high)


def difference(one: float, ones: int, other: float, others: int) -> tuple[float, float, float]:
    """`one` - `other`, shares of independent images, and its interval from their Wilson intervals (Newcombe 1998)."""
    (low, high), (low_, high_) = wilson(one, ones), wilson(other, others)
    below = math.hypot(one - low, high_ - other)
    above = math.hypot(high - one, other - low_)
    return one - other, max(-1.0, one - other - below), min(1.0, one - other + above)
