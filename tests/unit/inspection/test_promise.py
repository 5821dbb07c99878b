"""A promised share of false rejects is kept, its bound is right, and what cannot be promised is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from visionft.errors import DataError
from visionft.inspection.promise import Promise, least


@pytest.mark.parametrize(("n", "share"), [(99, 0.01), (150, 0.05), (30, 0.1)])
def test_over_many_draws_good_parts_are_rejected_as_often_as_ranks_say(n, share):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        promise = Promise.of(rng.gumbel(size=n), share)
        rates.append(promise.rejects(rng.gumbel(size=500)).mean())
    exact = 1 - promise.rank / (n + 1)
    assert exact <= share + 1e-12 and share - exact < 1 / (n + 1)
    assert np.mean(rates) == pytest.approx(exact, abs=4 * np.std(rates) / 20)


@pytest.mark.parametrize(("n", "share"), [(99, 0.01), (200, 0.05)])
def test_the_bound_holds_for_nineteen_draws_in_twenty(n, share):
    rng = np.random.default_rng(1)
    held = [Promise.of(rng.random(n), share) for _ in range(2000)]
    true = np.array([1 - promise.threshold for promise in held])  # of uniform scores
    assert (true < held[0].bound).mean() == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("n", "share"), [(299, 0.01), (90, 0.05), (200, 0.05)])
def test_with_confidence_nineteen_thresholds_in_twenty_reject_no_more_than_promised(n, share):
    rng = np.random.default_rng(2)
    held = [Promise.of(rng.random(n), share, 0.95) for _ in range(2000)]
    true = np.array([1 - promise.threshold for promise in held])
    assert (true <= share).mean() >= 0.94 and held[0].bound <= share
    one_lower = np.array([1 - np.sort(promise.scores)[promise.rank - 2] for promise in held])
    assert (one_lower <= share).mean() < 0.95


@given(n=st.integers(20, 300), share=st.floats(0.05, 0.5))
def test_the_bound_is_the_one_of_clopper_and_pearson(n, share):
    promise = Promise.of(np.arange(n), share)
    over = n - promise.rank
    assert promise.bound == pytest.approx(beta.ppf(0.95, over + 1, n - over), rel=1e-9)


@given(
    scores=st.lists(st.integers(0, 30), min_size=19, max_size=60),
    asked=st.lists(st.integers(-5, 40), min_size=1),
    share=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_a_part_is_rejected_just_where_its_p_value_is_no_larger_than_the_promise(scores, asked, share):
    promise = Promise.of(scores, share)
    assert promise.rejects(asked).tolist() == (promise.p_values(asked) <= share + 1e-12).tolist()


def test_p_values_fall_with_the_score_and_are_never_zero():
    promise = Promise.of(np.arange(99), 0.01)
    p = promise.p_values([-1, 0, 50, 98, 99, 1e9])
    assert p.tolist() == [1.0, 1.0, 0.5, 0.02, 0.01, 0.01]


def test_what_the_sample_cannot_support_is_refused_with_what_it_can():
    with pytest.raises(DataError, match=r"false_reject=0.001 needs at least 999 good images and there are 300, which "
                                        r"support false_reject=0.0034"):  # fmt: skip
        Promise.of(np.arange(300), 0.001)
    assert Promise.of(np.arange(300), 0.0034).threshold == 299
    with pytest.raises(DataError, match=r"confidence=0.95 needs at least 299 good images and there are 298"):
        Promise.of(np.arange(298), 0.01, 0.95)
    assert least(0.01) == 99 and least(1 / 3) == 2
    with pytest.raises(DataError, match="2 of 30 scores"):
        Promise.of([np.nan, np.inf, *range(28)], 0.1)


def test_facts_come_back():
    for confidence in (None, 0.9):
        promise = Promise.of(np.random.default_rng(0).random(50), 0.05, confidence)
        again = Promise.of(**promise.facts())
        assert again.threshold == promise.threshold and again.bound == promise.bound
