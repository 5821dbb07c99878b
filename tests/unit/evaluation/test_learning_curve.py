"""The learning curve rises where labels teach, is flat where they cannot, and never judges an image it learnt from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.errors import DataError
from visionft.evaluation import learning_curve as module
from visionft.evaluation.learning_curve import LearningCurve, learning_curve, nested


def blobs(n: int, dim: int, distance: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two round clouds; many dimensions make few labels a poor guide."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    z = torch.randn(n, dim, generator=generator)
    z[:, 0] += distance * (2 * labels - 1)
    return z, labels


def test_where_directions_must_be_learnt_more_labels_help():
    curve = learning_curve(*blobs(600, 100, 1.2), 2)
    values = [value for _, value, *_ in curve.points]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.08
    assert curve.gain[1] > 0 and curve.words.startswith("More labels would probably help")


def test_a_problem_that_few_labels_solve_gains_nothing_from_more():
    curve = learning_curve(*blobs(160, 2, 8.0), 2)
    assert [value for _, value, *_ in curve.points] == [1, 1, 1, 1]
    assert curve.gain == (0, 0, 0)
    assert curve.words.startswith("More labels of this kind would hardly help")


def test_labels_that_mean_nothing_are_told_no_better_than_by_chance():
    """Any leak of the judged images into the learnt ones would show: 200 dimensions remember 120 labels."""
    z, _ = blobs(160, 200, 0.0)
    labels = torch.randperm(160, generator=torch.Generator().manual_seed(3)) % 2
    for _, value, low, high in learning_curve(z, labels, 2).points:
        assert abs(value - 0.5) < 0.12 and low < 0.5 < high


def test_the_last_share_is_all_labels_that_are_not_held_out_and_each_step_doubles():
    curve = learning_curve(*blobs(160, 4, 1.0), 2, draws=2)
    assert curve.labels == (15, 30, 60, 120)
    assert curve.hits.shape == (4, 2, 160)


def test_the_gain_is_that_of_the_last_step_and_its_interval_is_paired():
    hits = np.zeros((3, 1, 400))
    hits[1, 0, :200], hits[2, 0, :240] = 1, 1
    curve = LearningCurve((100, 200, 400), hits)
    mean, low, high = curve.gain
    assert mean == pytest.approx(0.1)
    assert 0.06 < low < 0.1 < high < 0.14  # unpaired it would be twice as wide
    assert "of 800 labels" in curve.words and "+10.0 points" in curve.words


@pytest.mark.parametrize(("right", "says"), [(8, "cannot be told"), (0, "hardly help")])
def test_a_gain_that_may_be_none_is_not_sold_as_one(right, says):
    hits = np.zeros((2, 1, 400))
    hits[0, 0, :200], hits[1, 0, :200] = 1, 1
    hits[1, 0, 200 : 200 + right], hits[1, 0, : right // 2] = 1, 0
    assert says in LearningCurve((100, 200), hits).words


def test_a_small_share_lies_in_a_large_one(monkeypatch):
    seen: list[set[float]] = []
    fit = module.fit_probe

    def spy(features, labels, **options):
        seen.append(set(features[:, 0].tolist()))
        return fit(features, labels, **options)

    monkeypatch.setattr(module, "fit_probe", spy)
    learning_curve(*blobs(80, 3, 1.0), 2, draws=1, folds=2)
    for f in (0, 1):
        small, middle, large, whole = seen[f::2]
        assert small < middle < large < whole


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_beginning_of_the_order_has_the_classes_in_proportion(labels, seed):
    y = torch.tensor(labels)
    order = nested(y, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    counts = y.bincount().double()
    for size in range(1, len(labels) + 1):
        found = y[order[:size]].bincount(minlength=len(counts)).double()
        assert (found - size * counts / len(labels)).abs().max() <= len(counts)
    present = int((counts > 0).sum())
    assert len(set(y[order[:present]].tolist())) == present  # each class has a first image before any has many


def test_too_few_labels_are_named():
    z, labels = blobs(8, 3, 1.0)
    assert learning_curve(z, labels, 2).labels == (2, 3, 6)  # an eighth would lack a class
    with pytest.raises(DataError, match="8 labels of 4 classes are too few"):
        learning_curve(z, torch.arange(8) // 2, 4)
    with pytest.raises(DataError, match="two classes"):
        learning_curve(z, torch.zeros(8, dtype=torch.int64), 2)
