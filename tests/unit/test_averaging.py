"""Weights between networks: the ends of the line are the networks, and no mean is kept that scores less."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visionft.averaging import best_share, between, soup


def network(*values: float) -> nn.Module:
    made = nn.BatchNorm1d(len(values))
    made.weight.data.copy_(torch.tensor(values))
    made.running_mean.copy_(2 * torch.tensor(values))
    return made


def near(model: nn.Module, *goal: float):
    return lambda: -float((model.weight.detach() - torch.tensor(goal)).square().sum())


def test_the_line_ends_in_its_networks_and_takes_counters_from_the_end():
    start, end = network(0.0).state_dict(), network(4.0).state_dict()
    end["num_batches_tracked"] += 7
    for share, value in ((0.0, 0.0), (0.25, 1.0), (1.0, 4.0)):
        found = between(start, end, share)
        assert found["weight"].item() == value
        assert found["running_mean"].item() == 2 * value
        assert found["num_batches_tracked"] == 7


@pytest.mark.parametrize(("goal", "share"), [(4.2, 1.0), (2.1, 0.5), (0.9, 0.25), (-3.0, 0.25)])
def test_the_share_that_scores_best_is_kept(goal, share):
    model, start = network(4.0), network(0.0).state_dict()
    assert best_share(model, start, near(model, goal)) == share
    assert model.weight.item() == 4 * share


def test_of_equal_shares_the_end_is_kept():
    model = network(4.0)
    assert best_share(model, network(0.0).state_dict(), lambda: 1.0) == 1.0


def test_a_soup_takes_what_helps_and_leaves_what_does_not():
    model = network(0.0, 0.0)
    states = [network(*v).state_dict() for v in ((9.0, 9.0), (2.0, 0.0), (0.0, 2.2))]
    kept = soup(model, states, near(model, 1.0, 1.0))
    assert kept == [1, 2]
    assert model.weight.tolist() == pytest.approx([1.0, 1.1])


def test_a_soup_of_three_is_their_plain_mean():
    model = network(0.0)
    states = [network(v).state_dict() for v in (0.0, 2.4, 0.9)]
    assert soup(model, states, lambda: 1.0) == [0, 1, 2]
    assert model.weight.item() == pytest.approx(1.1)
    assert model.running_mean.item() == pytest.approx(2.2)


def test_a_soup_of_one_good_network_is_that_network():
    model = network(0.0)
    assert soup(model, [network(5.0).state_dict(), network(1.0).state_dict()], near(model, 1.0)) == [1]
    assert model.weight.item() == 1.0
