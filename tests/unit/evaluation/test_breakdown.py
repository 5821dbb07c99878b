"""Per-class numbers equal scikit-learn's; the worst group is called worst only when chance would not make it so."""

import numpy as np
import pytest
from sklearn import metrics

from visionft.evaluation.breakdown import by_class, by_group, unevenness


def answers(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    return np.where(rng.uniform(size=n) < 0.7, labels, rng.integers(classes, size=n)), labels


def test_recall_precision_and_f1_are_scikit_learns_and_lie_within_their_intervals():
    guess, labels = answers(300, 4, 0)
    rows = by_class(guess, labels, "abcd")
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, guess)
    for c, row in enumerate(rows):
        assert (row.truth, row.said) == (support[c], (guess == c).sum())
        for found, theirs in ((row.recall, recall[c]), (row.precision, precision[c]), (row.f1, f1[c])):
            assert found[0] == pytest.approx(theirs)
            assert found[1] < found[0] < found[2]


def test_a_class_that_is_absent_or_never_said_has_no_number_instead_of_a_zero():
    absent, unsaid = by_class(np.array([0, 0]), np.array([0, 2]), "abc")[1:]
    assert (absent.recall, absent.precision, absent.f1) == (None, None, None)
    assert unsaid.precision is None and unsaid.recall[0] == 0 == unsaid.f1[0]


def test_a_group_is_counted_apart_and_its_recall_is_that_of_the_positive_class():
    guess, labels = np.array([0, 1, 0, 0]), np.array([0, 1, 0, 1])
    mono, poly = by_group(guess, labels, ["mono", "mono", "poly", "poly"], positive=1)
    assert (mono.accuracy[0], poly.accuracy[0]) == (1.0, 0.5)
    assert (mono.recall[0], poly.recall[0], poly.positives) == (1.0, 0.0, 1)
    assert by_group(guess, labels, ["mono"] * 4)[0].recall is None


def test_a_gap_that_is_real_is_proven_and_names_its_groups():
    rng = np.random.default_rng(1)
    groups = np.repeat(["new", "old", "other"], 150)
    hits = (rng.uniform(size=450) < np.where(groups == "old", 0.7, 0.9)).astype(float)
    found = unevenness(hits, groups.tolist())
    assert found.worst == "old" and found.proven and found.chance < 0.01


def test_the_worst_of_many_groups_that_are_all_alike_is_called_proven_in_one_case_of_twenty():
    """Comparing the extremes of 12 groups as if they had been chosen beforehand would find a gap nearly every time."""
    rng = np.random.default_rng(0)
    groups = [f"g{i % 12}" for i in range(240)]
    proven = sum(unevenness((rng.uniform(size=240) < 0.8).astype(float), groups).proven for _ in range(100))
    assert proven <= 11


def test_one_group_is_not_uneven():
    assert unevenness(np.ones(4), ["a"] * 4) is None
