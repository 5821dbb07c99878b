"""Folds: copies and groups stay together, and whoever learns from the others has seen every class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.evaluation.decision import exponent
from visionft.evaluation.folds import copies, fold_of, kin
from visionft.evaluation.ordinal import fit_ordinal
from visionft.evaluation.probe import fit_probe
from visionft.evaluation.ridge import fit_ridge
from visionft.evaluation.worth import held_out

SAMPLES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 20)), min_size=1, max_size=60)


@given(samples=SAMPLES, folds=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_what_belongs_together_is_not_split_and_no_class_is_missed(samples, folds, seed):
    labels, groups, rows = (torch.tensor(each) for each in zip(*samples, strict=True))
    names = [f"group {g}" for g in groups.tolist()]
    features = rows[:, None].float()  # the same number is the same image
    fold = fold_of(labels, folds, seed, kin(features, names))
    for own in (groups, rows):
        assert all(len(fold[own == u].unique()) == 1 for u in own.unique())
    dealt = fold[fold >= 0].unique()
    assert dealt.tolist() == list(range(len(dealt))) and len(dealt) <= folds  # no fold is empty
    assert all(set(labels[fold != f].tolist()) == set(labels.tolist()) for f in dealt)


@given(samples=SAMPLES, seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_kin_are_the_parts_of_the_graph_of_copies_and_groups(samples, seed):
    _, groups, rows = (np.array(each) for each in zip(*samples, strict=True))
    first = kin(torch.from_numpy(rows)[:, None].float(), [str(g) for g in groups]).numpy()
    tied = (groups[:, None] == groups) | (rows[:, None] == rows)
    reach = np.linalg.matrix_power(tied.astype(float), 1) > 0
    for _ in range(len(samples)):
        reach = (reach.astype(float) @ tied) > 0
    assert first.tolist() == [int(np.flatnonzero(row)[0]) for row in reach]


def test_groups_of_several_classes_are_dealt_in_equal_shares():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = torch.from_numpy((rng.random(400) < rng.random(40)[groups]).astype(np.int64))
    fold = fold_of(labels, 4, 0, kin(torch.randn(400, 3), [str(g) for g in groups]))
    shares = torch.stack([labels[fold == f].bincount(minlength=2) for f in range(4)]).double()
    assert (fold >= 0).all() and ((shares / shares.mean(0) - 1).abs() < 0.15).all()


def test_copies_stay_in_one_fold_so_that_random_labels_are_not_told():
    """Every sample twice, labels by a coin: a copy that was learnt would tell of the one held out."""
    generator = torch.Generator().manual_seed(3)
    once, coins = torch.randn(60, 40, generator=generator), torch.randint(2, (60,), generator=generator)
    features, labels = once.repeat(2, 1), coins.repeat(2)
    first = copies(features)
    assert first.tolist() == [*range(60), *range(60)]
    fold = fold_of(labels, 4, 0, first)
    assert torch.equal(fold[:60], fold[60:])
    told = held_out(features, labels, 2)
    right = [float(hits.mean()) for hits in told.hits(labels)]
    assert max(right) < 0.65  # with folds that split copies: knn 1.0
    torch.testing.assert_close(told.probe[:60], told.probe[60:])


def test_a_class_of_copies_alone_is_never_held_out():
    features = torch.cat([torch.randn(6, 4), torch.ones(3, 4)])
    fold = fold_of(torch.tensor([0] * 6 + [1] * 3), 4, 0, copies(features))
    assert fold[6:].tolist() == [-1] * 3 and (fold[:6] >= 0).all()


@pytest.fixture(scope="module")
def parts_of_one_day():
    """Forty days of ten nearly equal images; a day's label is a coin: nothing is to be learnt of another day."""
    rng = torch.Generator().manual_seed(0)
    day = torch.arange(40).repeat_interleave(10)
    features = torch.randn(40, 30, generator=rng)[day] + 0.1 * torch.randn(400, 30, generator=rng)
    return features, torch.randint(2, (40,), generator=rng)[day], [f"day {d}" for d in day.tolist()]


def test_what_a_probe_says_of_a_group_was_not_learnt_from_it(parts_of_one_day):
    features, labels, days = parts_of_one_day
    flattered, honest = (
        float((fit_probe(features, labels, classes=2, groups=g).held.argmax(1) == labels).float().mean())
        for g in (None, days)
    )
    assert flattered > 0.95 and honest < 0.65


def test_groups_make_a_probe_of_noise_careful(parts_of_one_day):
    features, labels, days = parts_of_one_day
    assert fit_probe(features, labels, classes=2, groups=days).l2 > 10 * fit_probe(features, labels, classes=2).l2
    assert fit_ordinal(features, labels, count=2, groups=days).l2 > 10 * fit_ordinal(features, labels, count=2).l2
    values = labels.double()
    assert fit_ridge(features, values, groups=days).l2 > 10 * fit_ridge(features, values).l2


def test_a_rule_chosen_on_some_groups_must_help_on_others():
    """Days whose images are nearly equal, positive by a coin: a threshold between two days tells nothing of a third."""
    rng, day = np.random.default_rng(0), np.repeat(np.arange(20), 50)
    labels = (rng.random(20) < 0.15).astype(np.int64)[day]
    p = rng.uniform(0.12, 0.32, 20)[day] + rng.uniform(0, 0.005, 1000)
    told = np.stack([1 - p, p], 1)
    assert exponent(told, labels) > 0.5
    assert exponent(told, labels, groups=[str(d) for d in day]) == 0


def test_one_group_alone_holds_nothing_out():
    labels = torch.tensor([0, 1] * 10)
    probe = fit_probe(torch.randn(20, 4), labels, classes=2, groups=["all"] * 20)
    assert probe.cv == {} and probe.held.isnan().all()
    assert fit_ridge(torch.randn(20, 4), labels.double(), groups=["all"] * 20).cv == {}
    assert exponent(np.full((20, 2), 0.5), labels.numpy(), groups=["all"] * 20) == 0
