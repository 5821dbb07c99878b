"""Which image comes when depends on (seed, step, rank) alone, and parts and processes share a batch without overlap."""

from __future__ import annotations

import collections
import itertools
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.order import Draw, Order, permutation, seed_of

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32)


def drawn(order: Order, steps: int) -> list[list[tuple[int, int]]]:
    """(index, epoch) pairs of the first batches of an order that never ends."""
    return [[(int(d), d.epoch) for d in part] for part in itertools.islice(order, steps)]


@given(sizes, st.integers(1, 20), seeds)
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation_whatever_the_batch(size, batch, seed):
    steps = -(-3 * size // batch)
    stream = [d for part in drawn(Order(size, batch, seed=seed), steps) for d in part][: 3 * size]
    for epoch in range(3):
        part = stream[epoch * size : (epoch + 1) * size]
        assert sorted(index for index, _ in part) == list(range(size))
        assert {e for _, e in part} == {epoch}


@given(sizes, st.integers(1, 20), seeds, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_step_needs_nothing_of_the_steps_before(size, batch, seed, start):
    resumed = drawn(Order(size, batch, seed=seed, start=start), 3)
    assert resumed == drawn(Order(size, batch, seed=seed), start + 3)[start:]
    assert resumed[0] == [(int(d), d.epoch) for d in Order(size, batch, seed=seed).of(start)]


@given(sizes, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), seeds, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_parts_and_processes_together_see_exactly_one_batch(size, share, parts, world, seed, start):
    batch = share * parts * world
    whole = drawn(Order(size, batch, seed=seed, start=start), 1)[0]
    dealt = [
        drawn(Order(size, batch, seed=seed, parts=parts, rank=rank, world=world, start=start), parts)
        for rank in range(world)
    ]
    assert all(len(part) == share for rank in dealt for part in rank)
    assert [d for part in range(parts) for rank in dealt for d in rank[part]] == whole


def test_epochs_and_seeds_differ():
    orders = [tuple(permutation(50, seed, epoch)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_a_draw_is_an_index_that_keeps_its_epoch_on_its_way_to_a_worker():
    draw = pickle.loads(pickle.dumps(Draw(7, 3)))
    assert (draw, draw.epoch) == (7, 3)
    assert [10, 20, 30][Draw(1, 5)] == 20


@given(seeds, st.integers(0, 10**6), st.integers(0, 64))
@settings(max_examples=60, deadline=None)
def test_device_seeds_are_repeatable_and_differ_between_steps_and_ranks(seed, step, rank):
    here = seed_of(seed, step, rank)
    assert here == seed_of(seed, step, rank)
    assert 0 <= here < 2**63
    assert len({here, seed_of(seed, step + 1, rank), seed_of(seed, step, rank + 1), seed_of(seed + 1, step, rank)}) == 4


labelled = st.lists(st.integers(0, 4), min_size=2, max_size=40)


@given(labelled, st.integers(1, 12), seeds)
@settings(max_examples=60, deadline=None)
def test_balanced_every_class_comes_as_often_and_every_image_of_it_too(labels, batch, seed):
    labels = np.array(labels)
    steps = -(-4 * len(labels) // batch)
    stream = [d for part in drawn(Order(len(labels), batch, seed=seed, labels=labels), steps) for d in part]
    stream = stream[: 4 * len(labels)]
    assert len(set(stream)) == len(stream), "an image that comes again is augmented in another way"
    of_class = collections.Counter(int(labels[index]) for index, _ in stream)
    assert max(of_class.values()) - min(of_class.get(c, 0) for c in np.unique(labels)) <= 1
    for c in np.unique(labels):
        times = collections.Counter(index for index, _ in stream if labels[index] == c)
        assert max(times.values()) - min(times[i] for i in np.flatnonzero(labels == c)) <= 1


@given(labelled, st.integers(1, 12), seeds, st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_balanced_a_step_needs_nothing_of_the_steps_before(labels, batch, seed, start):
    labels = np.array(labels)
    resumed = drawn(Order(len(labels), batch, seed=seed, start=start, labels=labels), 3)
    assert resumed == drawn(Order(len(labels), batch, seed=seed, labels=labels), start + 3)[start:]
