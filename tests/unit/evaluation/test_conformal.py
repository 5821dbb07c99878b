"""The promise of a set: it is kept on average exactly as theory says, and refused where too few images stand behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionft.errors import DataError
from visionft.evaluation.conformal import Conformal, rank


def answers(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels] * (1 + labels[:, None])
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


@pytest.mark.parametrize("miss", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [19, 50])
def test_over_many_draws_the_coverage_is_what_the_rank_says(miss, n):
    p, labels = answers(60_000, 0)
    later, truth = answers(4000, 1)
    covered = []
    for at in range(0, 400 * n, n):
        found = Conformal.fit(p[at : at + n], labels[at : at + n], miss=miss)
        covered.append(found.sets(later)[np.arange(len(truth)), truth].mean())
    expected = rank(n, miss) / (n + 1)
    assert expected >= 1 - miss
    spread = np.std(covered) / np.sqrt(len(covered))
    assert abs(np.mean(covered) - expected) < 4 * spread + 0.01


def test_the_interval_of_one_calibration_is_that_of_the_draws():
    p, labels = answers(60_000, 2)
    later, truth = answers(20_000, 3)
    fitted = [Conformal.fit(p[at : at + 60], labels[at : at + 60], miss=0.1) for at in range(0, 60_000, 60)]
    covered = [found.sets(later)[np.arange(len(truth)), truth].mean() for found in fitted[:500]]
    low, high = fitted[0].coverage()
    assert np.mean([low <= share <= high for share in covered]) == pytest.approx(0.95, abs=0.03)


def test_by_class_every_class_keeps_the_promise():
    p, labels = answers(60_000, 4)
    later, truth = answers(20_000, 5)
    covered = {True: [], False: []}
    for at in range(0, 30_000, 300):
        for by_class in covered:
            found = Conformal.fit(p[at : at + 300], labels[at : at + 300], miss=0.1, by_class=by_class)
            hit = found.sets(later)[np.arange(len(truth)), truth]
            covered[by_class].append([hit[truth == c].mean() for c in range(3)])
    assert np.mean(covered[False], axis=0).min() < 0.87  # the hard class pays for the easy ones
    assert np.mean(covered[True], axis=0).min() > 0.89


@given(st.integers(1, 400), st.floats(0.001, 0.9))
def test_what_the_images_cannot_promise_is_refused_with_the_number_that_could(n, miss):
    p, labels = answers(n, 0)
    needed = int(np.ceil(1 / miss)) - 1
    if n >= needed:
        assert Conformal.fit(p, labels, miss=miss).images == (n,) * 3
        return
    with pytest.raises(DataError, match=f"at least {needed} held-out images"):
        Conformal.fit(p, labels, miss=miss)


def test_who_is_unsure_has_another_set_than_one_class():
    found = Conformal(0.1, (0.7, 0.7, 0.7), (50, 50, 50))
    p = np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.29, 0.29, 0.42], [0.1, 0.2, 0.7], [0.28, 0.29, 0.29]])
    assert found.sets(p).sum(1).tolist() == [1, 2, 1, 1, 0]
    assert found.unsure(p).tolist() == [False, True, False, False, True]


def test_a_share_that_is_none_is_refused():
    p, labels = answers(20, 0)
    with pytest.raises(DataError, match="makes no sense"):
        Conformal.fit(p, labels, miss=1.0)
