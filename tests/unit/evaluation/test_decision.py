"""How probabilities become answers: closed forms, and nothing that held-out images do not bear out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from visionft.evaluation.decision import Decision, balanced_accuracy, exponent, tempered

CLASSES = ("good", "bad")


def world(n: int, share: float, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities of two classes under two unit normals one and a half apart, `share` of the second."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    x = rng.normal(size=n) + 1.5 * labels
    logit = 1.5 * x - 1.125 + np.log(share / (1 - share))
    p = 1 / (1 + np.exp(-sharp * logit))
    return np.stack([1 - p, p], 1), labels


def test_the_balanced_rule_finds_the_threshold_of_bayes():
    """For true probabilities, mean recall is greatest where p equals the share of the rare class: exponent 1."""
    p, labels = world(40_000, 0.1)
    assert exponent(p, labels) == pytest.approx(1, abs=0.2)  # the optimum is flat
    found = Decision.fit(p, labels, CLASSES, rule="balanced", coverage=0.9)
    threshold = found.factors[0] / sum(found.factors)
    assert threshold == pytest.approx(0.1, abs=0.04)
    assert f"{threshold:.2f}" in found.words[1]
    chosen = found.choose(p)
    assert (chosen == (p[:, 1] > threshold)).all()


def test_auto_balances_only_where_a_class_is_rare():
    for share, rare in ((0.35, False), (0.05, True)):
        p, labels = world(4000, share)
        found = Decision.fit(p, labels, CLASSES, rule="auto", coverage=0.9)
        assert (len(set(found.factors)) > 1) == rare


def test_balancing_raises_mean_recall_on_new_images():
    p, labels = world(2000, 0.08, seed=1)
    later, truth = world(20_000, 0.08, seed=2)
    plain = Decision.fit(p, labels, CLASSES, rule="likeliest", coverage=0.9)
    balanced = Decision.fit(p, labels, CLASSES, rule="balanced", coverage=0.9)
    assert balanced.judge(later, truth)["balanced_accuracy"] > plain.judge(later, truth)["balanced_accuracy"] + 0.1


def test_where_probabilities_say_nothing_of_the_class_no_trade_is_taken():
    kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = (rng.random(120) < 0.1).astype(np.int64)
        p = rng.beta(2, 18, 120)
        kept += exponent(np.stack([1 - p, p], 1), labels) == 0
    assert kept >= 15  # half of the time, by luck, a useless rule looks useful


def test_a_network_twice_too_sure_gets_a_temperature_of_two():
    p, labels = world(20_000, 0.4, sharp=2.0)
    found = Decision.fit(p, labels, CLASSES, rule="likeliest", coverage=0.9)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.calibrated(p) == pytest.approx(world(20_000, 0.4)[0], abs=0.03)
    assert Decision.fit(p, labels, CLASSES, rule="likeliest", coverage=0.9, temper=False).temperature == 1


def test_a_temperature_divides_logits():
    z = np.random.default_rng(0).normal(size=(50, 4)) * 5
    softmax = lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)  # noqa: E731
    assert tempered(softmax(z), 3.0) == pytest.approx(softmax(z / 3), abs=1e-12)
    assert tempered(np.array([[1.0, 0.0]]), 2.0).sum() == pytest.approx(1)


def test_balanced_accuracy_is_the_mean_recall():
    labels = np.array([0, 0, 0, 1, 2, 2])
    right = np.array([1, 1, 0, 1, 0, 1.0])
    assert balanced_accuracy(right, labels) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    drawn = np.array([[1, 1, 1, 0, 1, 1.0], [0, 0, 2, 1, 0, 2]])
    assert balanced_accuracy(right, labels, drawn) == pytest.approx([(2 / 3 + 1 / 2) / 2, (0 + 1 + 1) / 3])


def test_sets_cover_as_promised_and_the_sure_are_right_more_often():
    p, labels = world(3000, 0.4, seed=3)
    found = Decision.fit(p, labels, CLASSES, rule="likeliest", coverage=0.9)
    later, truth = world(30_000, 0.4, seed=4)
    m = found.judge(found.calibrated(later), truth)
    assert m["coverage"] == pytest.approx(0.9, abs=0.02)
    assert m["accuracy_when_sure_low"] > m["accuracy_high"]
    assert m["accuracy_low"] < m["accuracy"] < m["accuracy_high"]


def test_too_few_images_promise_nothing_and_say_so():
    p, labels = world(8, 0.4)
    found = Decision.fit(p, labels, CLASSES, rule="likeliest", coverage=0.9)
    assert found.sets is None
    assert "at least 9" in found.words[-1]
    assert "coverage" not in found.judge(p, labels)


def test_what_is_written_is_what_is_read():
    p, labels = world(300, 0.1)
    found = Decision.fit(p, labels, CLASSES, rule="balanced", coverage=0.9)
    again = Decision.of(json.loads(json.dumps(found.facts())))
    assert again == found
    assert again.words == found.words
    assert (again.choose(p) == found.choose(p)).all()
