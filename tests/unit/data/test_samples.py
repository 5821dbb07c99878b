"""The sample data set comes with labels and groups, or says how to get it."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter

import pytest

from visionft.data.samples import elpv
from visionft.data.sources import read
from visionft.errors import DataError


def test_elpv_has_the_published_numbers_of_cells():
    pytest.importorskip("elpv_dataset")
    table = read("sample:elpv", labelled=True)
    assert table.classes == ("functional", "defective")
    assert Counter((record.group, record.label) for record in table) == {
        ("mono", 0): 588 + 117, ("mono", 1): 56 + 313, ("poly", 0): 920 + 178, ("poly", 1): 50 + 402,
    }  # fmt: skip
    assert all(record.image.is_file() for record in table)


def test_elpv_is_found_without_importing_it():
    pytest.importorskip("elpv_dataset")
    sys.modules.pop("elpv_dataset", None)
    elpv()
    assert "elpv_dataset" not in sys.modules


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "visionft\[samples\]"'):
        read("sample:elpv", labelled=True)


def test_an_unknown_sample_lists_those_there_are():
    with pytest.raises(DataError, match=r"no sample:mnist; the samples are sample:elpv"):
        read("sample:mnist", labelled=False)


def test_textile_has_the_published_numbers_of_photos():
    pytest.importorskip("conformal_clip_data")
    table = read("sample:textile", labelled=True)
    assert table.classes == ("nominal", "local", "global")
    assert [table.labels.tolist().count(label) for label in range(3)] == [1000, 500, 500]
