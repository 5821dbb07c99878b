"""Numbers, levels and flags are measured as the field does, against scikit-learn and SciPy, ties and gaps included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics

from visionft.evaluation.flags import best_cut, of_flags, tuned_cut
from visionft.evaluation.levels import of_levels, quadratic_kappa
from visionft.evaluation.numbers import Midranks, of_numbers, spearman

few = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=40)


@given(few)
@settings(max_examples=60, deadline=None)
def test_kappa_is_scikit_learns(pairs):
    said, truth = np.array(pairs).T
    ours = of_levels(said, truth, resamples=2)
    if len({*said.tolist(), *truth.tolist()}) == 1:
        assert "kappa" not in ours
        return
    theirs = metrics.cohen_kappa_score(truth, said, labels=range(5), weights="quadratic")
    assert ours["kappa"] == pytest.approx(theirs, abs=1e-12)
    assert ours["accuracy"] == pytest.approx((said == truth).mean())
    assert ours["within_one"] == pytest.approx((abs(said - truth) <= 1).mean())
    assert ours["mae"] == pytest.approx(abs(said - truth).mean())


def test_counts_stand_for_samples_drawn_that_often():
    rng = np.random.default_rng(0)
    said, truth, drawn = rng.integers(0, 4, 30), rng.integers(0, 4, 30), rng.integers(0, 4, 30)
    again = np.repeat(np.arange(30), drawn)
    wanted = metrics.cohen_kappa_score(truth[again], said[again], labels=range(4), weights="quadratic")
    assert quadratic_kappa(said, truth, drawn[None].astype(float))[0] == pytest.approx(wanted)
    x, y = said + 0.0, rng.normal(size=30)
    found = spearman(Midranks(x), Midranks(y), drawn[None].astype(float))[0]
    assert found == pytest.approx(spearmanr(x[again], y[again]).statistic)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=5, max_size=40))
@settings(max_examples=60, deadline=None)
def test_numbers_are_measured_as_scikit_learn_and_scipy_do(pairs):
    said, truth = np.array(pairs, float).T
    ours = of_numbers(said, truth, resamples=2)
    assert ours["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
    assert ours["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, said))
    assert ("r2" in ours) == (truth.std() > 0)
    if truth.std() > 0:
        assert ours["r2"] == pytest.approx(metrics.r2_score(truth, said))
    assert ("spearman" in ours) == bool(truth.std() > 0 and said.std() > 0)
    if "spearman" in ours:
        assert ours["spearman"] == pytest.approx(spearmanr(said, truth).statistic)


def test_the_best_constant_explains_nothing_and_the_truth_everything():
    truth = np.random.default_rng(0).normal(size=50) + 1e6
    assert of_numbers(np.full(50, truth.mean()), truth)["r2"] == pytest.approx(0, abs=1e-6)
    assert of_numbers(truth, truth)["r2"] == 1


def test_intervals_of_numbers_hold_the_truth_of_the_world_as_often_as_they_say():
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=80)
        said = truth + rng.normal(0, 0.5, 80)
        found = of_numbers(said, truth, resamples=200)
        held += found["rmse_low"] <= 0.5 <= found["rmse_high"]
    assert 0.85 <= held / 120 <= 1


def test_flags_are_ranked_as_scikit_learn_ranks_them_over_what_is_known():
    rng = np.random.default_rng(1)
    truth = (rng.random((60, 2)) < (0.3, 0.6)).astype(float)
    p = (truth * 0.3 + rng.random((60, 2))).clip(0, 1)
    truth[:10, 0] = np.nan
    found = of_flags(p, truth, ["a", "b"], [0.5, 0.7])
    known = np.isfinite(truth[:, 0])
    y, q = truth[known, 0].astype(int), p[known, 0]
    assert found["a/average_precision"] == pytest.approx(metrics.average_precision_score(y, q))
    assert found["a/auroc"] == pytest.approx(metrics.roc_auc_score(y, q))
    assert found["a/f1"] == pytest.approx(metrics.f1_score(y, q >= 0.5))
    assert found["b/f1"] == pytest.approx(metrics.f1_score(truth[:, 1], p[:, 1] >= 0.7))
    mean = (found["a/average_precision"] + found["b/average_precision"]) / 2
    assert found["mean_average_precision"] == pytest.approx(mean)
    low, high = found["mean_average_precision_low"], found["mean_average_precision_high"]
    assert low < mean < high
    assert high - low < found["a/average_precision_high"] - found["a/average_precision_low"]


def test_a_flag_without_positives_or_without_any_knowledge_is_left_out():
    p, truth = np.full((5, 3), 0.4), np.array([[1.0, 0, np.nan]] * 2 + [[0, 0, np.nan]] * 3)
    found = of_flags(p, truth, ["a", "b", "c"], [0.5] * 3)
    assert not [name for name in found if name.startswith(("b/", "c/"))]
    assert found["mean_average_precision"] == found["a/average_precision"]
    assert not [name for name, value in found.items() if np.isnan(value)]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=3, max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_other_cut_has_a_better_f1(pairs):
    p, truth = (np.array(x, float) for x in zip(*pairs, strict=True))
    p /= 20
    if not 0 < truth.sum() < len(truth):
        assert best_cut(p, truth) == 0.5
        return
    scores = [metrics.f1_score(truth, p >= cut) for cut in np.unique(p)]
    assert metrics.f1_score(truth, p >= best_cut(p, truth)) == pytest.approx(max(scores))


def test_a_cut_is_moved_for_a_rare_flag_and_not_by_luck():
    rng = np.random.default_rng(0)
    truth = (rng.random(2000) < 0.1).astype(float)
    p = 1 / (1 + np.exp(-(-2.5 + 2 * truth + rng.normal(size=2000))))
    assert tuned_cut(p, truth) < 0.35
    assert tuned_cut(p[:20], truth[:20]) == 0.5  # too few of either side
    sharp = np.clip(truth + rng.normal(0, 0.05, 2000), 0, 1)
    assert tuned_cut(sharp, truth) == 0.5  # nothing to gain
