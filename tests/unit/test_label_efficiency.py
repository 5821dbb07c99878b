"""Splits of one data set are judged together: as many test images, the same starts, shares and draws of labels."""

from __future__ import annotations

from typing import Any

from benchmarks.quality.label_efficiency import joined
from visionft.evaluation.efficiency import verdict


def split(better: str, base: str) -> list[dict[str, Any]]:
    rows = [("imagenet", base), ("imagenet+ssl", better)]
    return [{"start": start, "answer": "probe", "fraction": 0.1, "labels": 9, "seed": seed, "hits": hits}
            for start, hits in rows for seed in range(2)]  # fmt: skip


def test_test_images_of_splits_lie_side_by_side():
    rows = joined([split("11", "10"), split("1", "0")])
    assert [(row["start"], row["seed"], row["hits"]) for row in rows] == [
        ("imagenet", 0, "100"), ("imagenet", 1, "100"), ("imagenet+ssl", 0, "111"), ("imagenet+ssl", 1, "111"),
    ]  # fmt: skip


def test_what_one_split_cannot_prove_several_can():
    one = split("1" * 20, "1" * 18 + "00")
    assert "not proven different: +10.0 points" in verdict(one)
    assert "better: +10.0 points" in verdict(joined([one] * 9))
