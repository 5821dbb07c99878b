"""Intervals of shares equal the published ones and cover what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from visionft.evaluation.intervals import difference, wilson


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilsons_interval_is_scipys(count, share):
    hits = round(share * count)
    theirs = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits / count, count) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_arrays_are_bounded_value_by_value_and_nothing_says_nothing():
    low, high = wilson(np.array([0.2, 0.9]), np.array([10.0, 40.0]))
    assert (low[1], high[1]) == pytest.approx(wilson(0.9, 40))
    assert wilson(0.0, 0) == pytest.approx((0, 1), abs=1e-6)


def test_the_difference_of_two_shares_is_that_of_newcombes_paper():
    """Newcombe 1998, Statistics in Medicine 17, table II: 56/70 against 48/80 by the score method, and 9/10 to 3/10."""
    assert difference(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert difference(0.9, 10, 0.3, 10) == pytest.approx((0.6, 0.1705, 0.8090), abs=1e-4)


def test_a_difference_changes_its_sign_with_its_sides():
    mean, low, high = difference(0.9, 50, 0.7, 80)
    assert difference(0.7, 80, 0.9, 50) == pytest.approx((-mean, -high, -low))
