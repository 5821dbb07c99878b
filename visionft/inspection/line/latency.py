"""Percentiles of millions of times in a few kilobytes, each true to half a percent."""

from __future__ import annotations

import math
from collections import Counter

STEP = math.log(1.01)


class Latency:
    """Counts seconds in steps of one percent."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.slowest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[round(math.log(max(seconds, 1e-6)) / STEP)] += 1
        self.slowest = max(self.slowest, seconds)

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent do not exceed; 0 of nothing."""
        left = max(1, math.ceil(self.counts.total() * percent / 100))
        for step in sorted(self.counts):
            left -= self.counts[step]
            if left <= 0:
                return math.exp(step * STEP)
        return 0.0
