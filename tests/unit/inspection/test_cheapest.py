"""The budget that costs least."""

from __future__ import annotations

import numpy as np
import pytest

from visionft.inspection.cheapest import cheapest
from visionft.inspection.promise import Promise
from visionft.inspection.verbs import Costs

GOOD = Promise.of(np.arange(1, 100), 0.01)  # thresholds 99, 98, ... for budgets 0.01, 0.02, ...


@pytest.mark.parametrize(("escape", "defects", "threshold"), [
    (1, 0.5, 90),  # ten more good parts of a hundred are rejected, and no defect passes: half of it, against 10 %
    (100, 0.5, 90), (0.05, 0.5, 99), (1, 0.01, 99), (0, 0.5, 99),
])  # fmt: skip
def test_it_is_where_one_more_good_part_costs_as_much_as_the_defects_that_it_saves(escape, defects, threshold):
    found = cheapest(GOOD, [90.5] * 20, Costs(escape=escape, defects=defects))
    assert found.threshold == threshold and found.false_reject == pytest.approx((100 - threshold) / 100)


def test_a_promise_with_confidence_stays_one():
    sure = Promise.of(np.arange(1, 100), 0.05, 0.95)
    found = cheapest(sure, [97.5] * 20, Costs(escape=1, defects=0.5))
    assert found.confidence == 0.95 and found.threshold == 97
    assert found.false_reject == pytest.approx(0.0757, abs=0.01)
