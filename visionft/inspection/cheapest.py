"""Which share of good parts should be rejected? The one that costs least, by defects that nothing was learnt from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .promise import Promise, least
from .verbs import Costs


def cheapest(promise: Promise, defects: Sequence[float], costs: Costs) -> Promise:
    """The promise among all that its good parts support by which a part is expected to cost least.

    That is escape x defects x (share of these held-out scores that pass) + overkill x (1 - defects) x (share of good
    parts that it may reject); of equals, the one that rejects least.
    """
    (bad, good), n = costs.prices(), len(promise.scores)
    budgets = [k / (n + 1) for k in range(1, n + 1) if least(k / (n + 1), promise.confidence) <= n]
    found = [dataclasses.replace(promise, false_reject=budget) for budget in budgets]
    prices = [bad * float(np.mean(np.asarray(defects) <= one.threshold)) + good * one.false_reject for one in found]
    return found[int(np.argmin(prices))]
