"""Records and tables: names, validation, columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visionft.data.records import Record, Table
from visionft.errors import DataError


def test_a_file_is_named_by_its_path_and_an_array_by_its_place():
    table = Table.of([Path("a.png"), np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)])
    assert [record.name for record in table] == ["a.png", "array 1", "array 2"]
    assert [record.name for record in table.take([2, 0])] == ["array 2", "a.png"]


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(DataError, match=r"b\.png has label 2, but there are 2 classes"):
        Table.of(["a.png", "b.png"], [0, 2], classes=("good", "bad"))
    with pytest.raises(DataError, match="label -1"):
        Table.of(["a.png"], [-1], classes=("good", "bad"))


def test_a_class_listed_twice_is_an_error():
    with pytest.raises(DataError, match="same class twice: good"):
        Table((), ("good", "bad", "good"))


def test_columns_of_different_length_are_an_error():
    with pytest.raises(DataError, match="2 images but 1 labels"):
        Table.of(["a.png", "b.png"], [0], classes=("good",))


def test_labels_and_groups_are_whole_columns_or_errors_that_name_the_gap():
    table = Table.of(["a.png", "b.png"], [1, 0], ["p", "q"], classes=("good", "bad"))
    assert table.labels.tolist() == [1, 0] and table.labels.dtype == np.int64
    assert table.groups == ["p", "q"] and table.labelled and table.grouped
    gap = Table((table[0], Record(Path("c.png"))), table.classes)
    with pytest.raises(DataError, match=r"1 of 2 images have no label, the first is c\.png"):
        _ = gap.labels
    with pytest.raises(DataError, match=r"no group, the first is c\.png"):
        _ = gap.groups
    assert not gap.labelled and not gap.grouped


def test_taking_keeps_the_order_asked_for_and_the_classes():
    table = Table.of(["a.png", "b.png", "c.png"], [0, 1, 0], classes=("good", "bad"), source="parts")
    part = table.take(np.array([2, 0]))
    assert [record.name for record in part] == ["c.png", "a.png"]
    assert (part.classes, part.source) == (table.classes, "parts")
