"""The coreset is the greedy one, covers what k points can, and is the same every time."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visionft.inspection.coreset import coreset, radius


def drawn(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def greedy(points: Tensor, k: int) -> list[int]:
    """As the paper says it, one after the other."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmin())]
    while len(chosen) < k:
        chosen.append(int(torch.cdist(points, points[chosen]).min(1).values.argmax()))
    return chosen


@given(seed=st.integers(0, 1000), n=st.integers(5, 60), share=st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=30)
def test_one_at_a_time_it_is_the_greedy_choice(seed, n, share):
    points, k = drawn(n, 3, seed), max(1, int(n * share))
    assert coreset(points, k, batch=1).tolist() == greedy(points, k)


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_of_as_many_covers_twice_as_tightly(seed):
    points = drawn(9, 2, seed)
    best = min(radius(points, points[list(some)]) for some in itertools.combinations(range(9), 3))
    assert best - 1e-9 <= radius(points, points[coreset(points, 3, batch=1)]) <= 2 * best + 1e-9


@pytest.mark.parametrize("batch", [None, 4, 16])
def test_rounds_of_several_cover_nearly_as_tightly(batch):
    points = torch.cat([drawn(400, 8, 1) + 6 * drawn(1, 8, seed) for seed in range(5)])
    exact, batched = (radius(points, points[coreset(points, 256, batch=b)]) for b in (1, batch))
    assert batched < 1.1 * exact
    some = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:256]
    assert batched < 0.8 * radius(points, points[some])


@given(seed=st.integers(0, 1000), n=st.integers(2, 40), k=st.integers(1, 50), batch=st.sampled_from([None, 1, 3, 64]))
@settings(deadline=None, max_examples=40)
def test_no_point_is_taken_twice_even_among_equal_ones(seed, n, k, batch):
    points = drawn(n, 2, seed).round()
    found = coreset(points, k, batch=batch).tolist()
    assert len(found) == len(set(found)) == min(n, k)


def test_the_order_of_the_points_does_not_matter():
    points = drawn(300, 4)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert set(coreset(points, 40).tolist()) == set(order[coreset(points[order], 40)].tolist())


def test_progress_ends_at_k():
    seen = []
    coreset(drawn(200, 2), 50, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (50, 50) and [done for done, _ in seen] == sorted({done for done, _ in seen})
