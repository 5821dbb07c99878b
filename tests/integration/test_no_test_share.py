"""With test=0 a run learns from, or chooses by, every image that its source does not hold out itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visionft as vf
from visionft.data.records import Table

WORDS: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "size": 32, "batch": 8, "precision": "fp32"}


def finetuned(images: list[np.ndarray], labels: np.ndarray, out: Path, splits: list[str] | None, **words: Any) -> Any:
    table = Table.of(images, labels.tolist(), splits=splits, classes=["a", "b", "c"], source="pictures")
    return vf.finetune(table, **WORDS, **words, test=0, out=str(out), quiet=True)


@pytest.mark.parametrize(
    "words", [{"tune": "probe"}, {"steps": 2, "folds": 2}, {"steps": 2, "refit": True}, {"steps": 2, "tune": "auto"}]
)
def test_no_image_is_held_out_and_nothing_is_claimed(words, pixels, labels, tmp_path):
    done = finetuned(pixels, labels, tmp_path / "run", None, **words)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["data"]["train"] + info["data"]["val"] == len(pixels) and info["data"]["test"] == 0
    assert not any(done.metrics.values()) and done.decided == {}
    report = (tmp_path / "run" / "report.html").read_text()
    assert "No image was held out for a test" in report and "Answers to the test images" not in report
    assert vf.load(tmp_path / "run").predict(pixels[0])[0].label in "abc"


def test_a_test_split_of_the_source_is_still_tested(pixels, labels, tmp_path):
    splits = ["test" if at < 6 else "train" for at in range(len(pixels))]
    done = finetuned(pixels, labels, tmp_path / "run", splits, tune="probe")
    assert len(done.test.table) == 6 and "accuracy_low" in done.metrics["finetuned"]
