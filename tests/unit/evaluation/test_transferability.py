"""Scores of a backbone before any training, against their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from visionft.errors import DataError
from visionft.evaluation.forgetting import cka, drift
from visionft.evaluation.transferability import leep, logme


def labelled(n: int, d: int, seed: int, signal: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return rng.normal(size=(n, d)) + signal * rng.normal(size=(3, d))[labels], labels


@pytest.mark.parametrize(("n", "d"), [(30, 4), (12, 20)])
def test_logme_is_the_greatest_evidence_there_is(n, d):
    features, labels = labelled(n, d, 0, 1.0)
    f, total = features, 0.0
    for c in range(3):
        y = (labels == c).astype(float)
        grid = [
            multivariate_normal.logpdf(y, cov=f @ f.T / a + np.eye(n) / b)
            for a in np.geomspace(1e-2, 1e6, 120) for b in np.geomspace(1, 1e4, 120)
        ]  # fmt: skip
        total += max(grid)
    assert logme(features, labels, 3) == pytest.approx(total / 3 / n, abs=2e-3)


def test_better_features_score_higher():
    scores = [logme(*labelled(200, 16, 1, signal), 3) for signal in (0.0, 0.3, 1.0, 3.0)]
    assert scores == sorted(scores)
    with pytest.raises(DataError, match="at least two classes"):
        logme(np.ones((3, 2)), np.zeros(3, dtype=np.int64), 2)


def test_leep_is_zero_for_a_source_that_knows_and_the_entropy_for_one_that_does_not():
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0])
    assert leep(np.eye(3)[labels], labels, 3) == pytest.approx(0)
    share = np.bincount(labels) / len(labels)
    assert leep(np.full((8, 5), 0.2), labels, 3) == pytest.approx(float((share * np.log(share)).sum()))


def test_leep_written_out():
    source = np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    labels = np.array([0, 1, 1])
    joint = np.array([[0.7, 0.3], [0.5, 1.5]])
    given = joint / joint.sum(0)
    wanted = np.mean([np.log(given[y] @ s) for s, y in zip(source, labels, strict=True)])
    assert leep(source, labels, 2) == pytest.approx(wanted)


def test_cka_knows_rotations_and_scales_and_tells_strangers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8))
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    assert cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert cka(x, rng.normal(size=(300, 6))) < 0.1
    y = x @ rng.normal(size=(8, 5)) + rng.normal(size=(300, 5))
    center = np.eye(300) - 1 / 300
    hsic = [float(np.trace(a @ a.T @ center @ b @ b.T @ center)) for a, b in ((x, y), (x, x), (y, y))]
    assert cka(x, y) == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2])) == pytest.approx(cka(y, x))


def test_what_cka_cannot_compare_is_refused():
    with pytest.raises(DataError, match="same images"):
        cka(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(DataError, match="not defined"):
        cka(np.ones((3, 2)), np.random.default_rng(0).normal(size=(3, 2)))


def test_drift_is_relative():
    x = np.random.default_rng(0).normal(size=(5, 3))
    assert drift(x, x) == 0
    assert drift(x, -x) == pytest.approx(2) == pytest.approx(drift(10 * x, -10 * x))
