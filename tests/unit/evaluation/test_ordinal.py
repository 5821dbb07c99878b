"""The probe of levels minimises what it says, keeps its cuts in order, and bears a level that nobody has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionft.errors import DataError
from visionft.evaluation.ordinal import fit_ordinal
from visionft.evaluation.probe import scaling


def world(n: int = 300, levels: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 6))
    hidden = z @ np.array([2.0, -1, 0, 0, 0, 0]) + rng.logistic(size=n)
    edges = np.quantile(hidden, np.arange(1, levels) / levels)
    return torch.from_numpy(z).float(), torch.from_numpy(np.searchsorted(edges, hidden))


def cost(z, levels, weight, bias, l2) -> torch.Tensor:
    mean, scale = scaling(z)
    above = (levels[:, None] > torch.arange(len(bias))).float()
    logits = ((z - mean) / scale @ weight)[:, None] + bias
    return F.binary_cross_entropy_with_logits(logits, above) + l2 / 2 * weight.square().sum()


def test_no_step_in_any_direction_lowers_what_is_minimised():
    z, levels = world()
    found = fit_ordinal(z, levels, count=4, l2=0.03)
    mean, scale = scaling(z)
    weight = (found.weight[0] * scale).requires_grad_()
    bias = (found.bias + found.weight[0] @ mean).requires_grad_()
    cost(z, levels, weight, bias, 0.03).backward()
    assert weight.grad.abs().max() < 1e-4 and bias.grad.abs().max() < 1e-4
    assert (found.bias.diff() < 0).all()  # as the paper proves of the optimum


def test_the_direction_is_that_of_the_world_and_cross_validation_finds_a_penalty():
    z, levels = world(2000)
    found = fit_ordinal(z, levels, count=4)
    w = found.weight[0]
    assert F.cosine_similarity(w, torch.tensor([2.0, -1, 0, 0, 0, 0]), dim=0) > 0.99
    assert found.l2 == min(found.cv, key=found.cv.get) and len(found.cv) >= 3


def test_levels_that_nobody_has_lie_beyond_the_others_and_are_unlikely():
    z, levels = world()
    found = fit_ordinal(z, levels + 1, count=7, l2=0.03)  # of 0..6 only 1..4 are there
    inner = fit_ordinal(z, levels, count=4, l2=0.03)
    torch.testing.assert_close(found.weight, inner.weight, atol=1e-3, rtol=1e-3)
    assert (found.bias.diff() <= 0).all() and found.bias.isfinite().all()
    above = (z @ found.weight[0])[:, None] + found.bias
    assert (above[:, 4:].sigmoid() < 0.1).float().mean() > 0.9
    assert (above[:, 0].sigmoid() > 0.9).float().mean() > 0.9


def test_one_level_alone_is_refused():
    with pytest.raises(DataError, match="at least two"):
        fit_ordinal(torch.randn(4, 2), torch.ones(4, dtype=torch.int64), count=3)
