"""A split is fair, whole, repeatable, and never puts the same thing on two sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.data.records import Record, Table
from visionft.data.split import split
from visionft.errors import DataError

SHARES = {"val": 0.15, "test": 0.25}
CLASSES = ("a", "b", "c")


def table_of(rows) -> Table:
    """Records from (label, group) rows, or (label, group, digest) where contents repeat."""
    records = (
        Record(Path(f"{at}.png"), label, group, digest=(rest[0] if rest else f"content {at}"))
        for at, (label, group, *rest) in enumerate(rows)
    )
    return Table(tuple(records), CLASSES)


rows = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("xyz")), min_size=1, max_size=80).map(
    lambda drawn: drawn + [(label, group) for label in range(3) for group in "xyz" for _ in range(4)]  # enough of all
)


@given(rows, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_stratum_is_dealt_to_within_one_of_its_share(drawn, seed):
    table = table_of(drawn)
    parts = split(table, SHARES, seed=seed)
    assert sorted(r.image for part in parts.values() for r in part) == sorted(r.image for r in table)
    total = Counter((record.label, record.group) for record in table)
    for name, share in {"train": 0.6, **SHARES}.items():
        dealt = Counter((record.label, record.group) for record in parts[name])
        assert all(abs(dealt[stratum] - share * count) < 1 for stratum, count in total.items())
        assert abs(len(parts[name]) - share * len(table)) <= 2


@given(rows, st.integers(0, 9), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_neither_order_nor_names_matter_only_contents_and_seed(drawn, seed, random):
    table = table_of(drawn)
    order = list(range(len(table)))
    random.shuffle(order)
    moved = tuple(Record(Path(f"moved/{at}.png"), r.label, r.group, digest=r.digest) for at, r in enumerate(table))
    shuffled = Table(moved, CLASSES).take(order)
    for by_group in (False, True):
        parts = split(table, {"test": 0.3}, seed=seed, by_group=by_group)
        again = split(shuffled, {"test": 0.3}, seed=seed, by_group=by_group)
        assert {record.digest for record in parts["test"]} == {record.digest for record in again["test"]}


def test_another_seed_deals_another_way():
    table = table_of([(at % 3, "x") for at in range(60)])
    tests = {frozenset(r.image for r in split(table, {"test": 0.25}, seed=seed)["test"]) for seed in range(5)}
    assert len(tests) == 5


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=60, max_size=120), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_same_content_is_never_on_two_sides(drawn, by_group):
    rows = [(label, f"g{at}", f"content {content}") for at, (label, content) in enumerate(drawn)]
    rows += [(label, f"h{label}{at}") for label in range(3) for at in range(4)]
    parts = split(table_of(rows), SHARES, seed=0, by_group=by_group)
    sides = [{record.digest for record in part} for part in parts.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@given(st.lists(st.integers(1, 9), min_size=12, max_size=40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_no_group_straddles_and_every_part_has_every_class(sizes, seed):
    drawn = [
        (at % 2, f"part {group}") for group, size in enumerate(sizes) for at in range(group % 2, group % 2 + size + 1)
    ]
    parts = split(table_of(drawn), SHARES, seed=seed, by_group=True)
    sides = [{record.group for record in part} for part in parts.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    for name, share in SHARES.items():
        assert {record.label for record in parts[name]} == {0, 1}
        assert abs(len(parts[name]) - share * len(drawn)) <= max(sizes) + 1


def test_groups_of_one_size_are_dealt_almost_exactly():
    drawn = [(group % 2, f"g{group}") for group in range(100) for _ in range(10)]
    sizes = {name: len(part) for name, part in split(table_of(drawn), SHARES, seed=0, by_group=True).items()}
    assert sizes == {"train": 600, "val": 150, "test": 250}


def test_a_rare_class_is_in_every_part_or_named():
    rows = [(0, None)] * 100 + [(1, None)] * 3
    parts = split(table_of(rows), SHARES, seed=0)
    assert all(Counter(record.label for record in part)[1] == 1 for part in parts.values())
    with pytest.raises(DataError, match=r"class 'b' has 2 different images: too few.*train, val, test"):
        split(table_of(rows[:-1]), SHARES, seed=0)
    with pytest.raises(DataError, match="class 'a' has 2 groups"):
        split(table_of([(0, "x"), (0, "y"), (0, "y")] * 5), SHARES, seed=0, by_group=True)
    with pytest.raises(DataError, match=r"0\.png has no group"):
        split(table_of(rows), SHARES, seed=0, by_group=True)


def test_parts_that_the_source_names_stay_and_missing_ones_come_from_its_train():
    records = [Record(Path(f"{at}.png"), at % 2, split="test" if at < 20 else "train") for at in range(100)]
    parts = split(Table(tuple(records), CLASSES), SHARES, seed=0)
    assert [record.image for record in parts["test"]] == [record.image for record in records[:20]]
    assert len(parts["val"]) == 12 and len(parts["train"]) == 68  # 15 % of the 80 that are not test
    assert set(split(Table(tuple(records), CLASSES), {"test": 0.5}, seed=0)) == {"train", "test"}


def test_unlabelled_tables_can_be_split():
    parts = split(Table.of([f"{at}.png" for at in range(40)]), {"val": 0.1}, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 36, "val": 4}


@pytest.mark.parametrize(
    "shares", [{"test": 1.0}, {"test": 0.0}, {"val": 0.6, "test": 0.5}, {"train": 0.5, "test": 0.4}]
)
def test_fractions_that_leave_nothing_or_do_not_add_up_are_refused(shares):
    with pytest.raises(DataError, match="fractions"):
        split(table_of([(0, "x")] * 20), shares, seed=0)
