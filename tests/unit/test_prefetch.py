"""Prefetching changes when items are made, and nothing else."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from visionft.prefetch import ahead


def left(count: int) -> bool:
    """Whether this many prefetching threads live, now or within seconds."""
    for _ in range(100):
        if sum(t.name == "prefetch" for t in threading.enumerate()) == count:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("count", [1, 3])
def test_items_come_in_order_to_the_last(count):
    assert list(ahead(iter(range(50)), count)) == list(range(50))
    assert list(ahead(iter([]), count)) == []


def test_items_are_made_before_they_are_asked_for_but_not_endlessly():
    made = []

    def items():
        for i in itertools.count():
            made.append(i)
            yield i

    batches = ahead(items(), 2)
    assert next(batches) == 0
    for _ in range(100):
        if len(made) == 4:
            break
        time.sleep(0.05)
    time.sleep(0.2)
    assert len(made) == 4  # one taken, two waiting, one in hand
    batches.close()


def test_an_error_is_raised_where_the_item_was_due():
    def items():
        yield 1
        raise ValueError("broken")

    batches = ahead(items(), 2)
    assert next(batches) == 1
    with pytest.raises(ValueError, match="broken"):
        next(batches)


def test_who_leaves_stops_the_thread():
    assert left(0)
    batches = ahead(itertools.count(), 2)
    next(batches)
    assert left(1)
    batches.close()
    assert left(0)
