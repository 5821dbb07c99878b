"""Classification metrics equal scikit-learn's, and their intervals cover what they claim to cover."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from visionft.errors import DataError
from visionft.evaluation import classification
from visionft.evaluation.bootstrap import bootstrap
from visionft.evaluation.ranking import auroc, auroc_interval, average_precision, roc_curve


def sample(n, classes, seed, levels=None):
    """Probabilities that know something of the labels; `levels` rounds scores, to make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    if levels:
        logits = np.round(logits * levels) / levels
    return torch.tensor(logits, dtype=torch.float32).softmax(dim=1), torch.tensor(labels)


@pytest.mark.parametrize("classes", [2, 5])
def test_overall_metrics_equal_scikit_learns(classes):
    p, y = sample(300, classes, seed=0)
    found = classification.summarise(p, y, classes=[f"c{i}" for i in range(classes)], resamples=10)
    predicted = p.argmax(dim=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p.double() / p.double().sum(dim=1, keepdim=True)))
    recalls = metrics.recall_score(y, predicted, average=None)
    assert [found[f"recall/c{i}"] for i in range(classes)] == pytest.approx(list(recalls))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
@settings(max_examples=100, deadline=None)
def test_ranking_metrics_equal_scikit_learns_with_and_without_ties(pairs):
    scores, labels = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))
    for ours, theirs in zip(
        roc_curve(scores, labels), metrics.roc_curve(labels, scores, drop_intermediate=False), strict=True
    ):
        assert ours == pytest.approx(theirs)


def test_a_resample_that_draws_everything_once_or_twice_changes_no_ranking():
    p, y = sample(50, 2, seed=3, levels=1)
    twice = auroc(np.tile(p[:, 1], 2), np.tile(y, 2))
    assert twice == pytest.approx(auroc(p[:, 1], y))


def test_the_confusion_matrix_has_the_truth_in_rows():
    p, y = sample(200, 4, seed=1)
    assert (classification.confusion(p, y) == metrics.confusion_matrix(y, p.argmax(dim=1))).all()


def test_ece_of_a_classifier_that_is_always_sure_and_right_half_the_time_is_a_half():
    p = torch.tensor([[0.0, 1.0]] * 10)
    found = classification.summarise(p, torch.tensor([0, 1] * 5), classes=["a", "b"])
    assert found["ece"] == pytest.approx(0.5)


def test_ece_vanishes_for_calibrated_probabilities():
    rng = np.random.default_rng(0)
    positive = rng.uniform(size=200_000)
    p, y = np.stack([1 - positive, positive], axis=1), (rng.uniform(size=200_000) < positive).astype(np.int64)
    assert classification.expected_calibration_error(p, y) < 0.005


def test_ece_equals_lightnings():
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error
    p, y = sample(500, 3, seed=2)
    ours = classification.expected_calibration_error(p.double().numpy(), y.numpy())
    assert ours == pytest.approx(float(calibration_error(p, y, num_classes=3, n_bins=15)), abs=1e-6)


def test_the_bootstrap_of_an_accuracy_is_the_binomial_interval():
    right = np.repeat([1.0, 0.0], [820, 180])
    low, high = bootstrap(lambda counts: counts @ right / 1000, 1000, resamples=4000)
    half = 1.96 * math.sqrt(0.82 * 0.18 / 1000)
    assert (low, high) == pytest.approx((0.82 - half, 0.82 + half), abs=0.003)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = 0
    for seed in range(100):
        right = np.random.default_rng(1000 + seed).uniform(size=200) < 0.8
        low, high = bootstrap(lambda counts, right=right: counts @ right / 200, 200, resamples=300, seed=seed)
        covered += low <= 0.8 <= high
    assert 88 <= covered <= 99


def test_the_interval_of_auroc_agrees_with_resampling_scikit_learns():
    p, y = sample(150, 2, seed=5)
    rng = np.random.default_rng(1)
    drawn = [rng.integers(150, size=150) for _ in range(400)]
    theirs = np.quantile([metrics.roc_auc_score(y[i], p[i, 1]) for i in drawn], [0.025, 0.975])
    assert auroc_interval(p[:, 1], y, resamples=2000) == pytest.approx(tuple(theirs), abs=0.015)


def test_summaries_depend_on_the_seed_only():
    p, y = sample(80, 2, seed=7)
    first, again, other = (classification.summarise(p, y, classes="ab", resamples=50, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["auroc_low"] != other["auroc_low"]


def test_one_accuracy_does_not_hide_a_group():
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]])
    found = classification.summarise(
        p, torch.tensor([0, 1, 0, 1]), classes=["good", "defective"], groups=["mono", "mono", "poly", "poly"]
    )
    assert (found["accuracy/mono"], found["accuracy/poly"]) == (1.0, 0.5)
    assert (found["recall/mono"], found["recall/poly"], found["recall/defective"]) == (1.0, 0.0, 0.5)


def test_what_the_labels_leave_undefined_is_left_out_and_nothing_is_nan():
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    found = classification.summarise(p, torch.tensor([0, 0]), classes=["good", "bad"], groups=["a", "b"])
    assert not {"auroc", "auroc_low", "average_precision", "recall/bad", "recall/a"} & set(found)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("p", "labels", "says"),
    [
        (torch.tensor([[math.nan, 0.5]]), [0], "1 samples are not finite"),
        (torch.tensor([[0.5, 0.5]]), [2], "labels run from 2 to 2"),
        (torch.zeros(0, 2), [], "0 samples"),
    ],
)
def test_unusable_predictions_are_named(p, labels, says):
    with pytest.raises(DataError, match=says):
        classification.summarise(p, torch.tensor(labels, dtype=torch.int64), classes=["a", "b"])
