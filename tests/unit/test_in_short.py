"""The table that README begins with says ahead where that is proven, and behind where it is."""

from __future__ import annotations

import pytest

from benchmarks import in_short, tables


def compared(*bounds: tuple[float, float]):
    """Rows of our 0.8 beside a peer for each interval of the difference."""
    ours = {"dataset": "elpv", "labels": 200, "seeds": 3, "threads": 2, "tool": "ours", "accuracy": 0.8, "budget": 60.0}
    peers = zip(in_short.PEERS, bounds, strict=False)
    return [ours, *({**ours, "tool": tool, "ours_more_low": a, "ours_more_high": b} for tool, (a, b) in peers)]


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ([(0.01, 0.2), (0.02, 0.1)], "ahead"),
        ([(0.01, 0.2), (-0.01, 0.1)], "level"),
        ([(0.01, 0.2), (-0.2, -0.1)], "behind"),
    ],
)
def test_ahead_means_ahead_of_every_peer_and_behind_of_any(bounds, said):
    assert [line[-1] for line in in_short.finetuning(compared(*bounds))] == [said]


def test_a_gap_within_the_spread_over_seeds_is_level():
    def rows(*ours: float):
        return [{"tool": "ours", "auroc": value} for value in ours] + [{"tool": "padim", "auroc": 0.9}]

    told = [in_short.inspection("elpv", rows(*values))[0][-1] for values in ((0.95, 0.96), (0.88, 0.94), (0.8, 0.81))]
    assert told == ["ahead", "level", "behind"]


def test_a_promise_that_is_proven_broken_is_called_so():
    assert in_short.promise([{"share_proven": 0.02}])[0][-1] == "kept"
    assert in_short.promise([{"share_proven": 0.02}, {"share_proven": 0.06}])[0][-1] == "broken"


def test_every_claim_has_a_file_and_every_file_says_something():
    for name, claim in in_short.CLAIMS.items():
        assert claim(tables.rows_of(name)), name
