"""The report of a fine-tuned run says what was done, how well, for whom and what is doubtful; a run is rebalanced."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import visionft as vf
from visionft.cli import main
from visionft.tasks.predictor import Predictor

SIDE, COUNT = 64, 128
FAST: dict[str, Any] = {"size": SIDE, "batch": 16, "precision": "fp32", "quiet": True}
WORDS = {"backbone": "test_resnet", "weights": "none", "steps": 12, "tune": "full", "optim.lr": 3e-3}


def stripes(lying: bool, faint: bool, rng: np.random.Generator) -> np.ndarray:
    wave = np.sin(np.arange(40) * rng.uniform(0.7, 0.9) + rng.uniform(0, 6))
    shape = wave[:, None] if lying else wave[None, :]
    strength = 6 if faint else 70
    return (128 + strength * shape[..., None] + rng.normal(0, 15, (40, 40, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Stripes, faint in one of two groups; the same file on both sides of the split."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = ["path,label,group,split"]
    for at in range(COUNT):
        lying, faint = bool(at % 2), at % 4 > 1
        split = "test" if at < 40 else "val" if at < 88 else "train"
        file = folder / f"{at}.png"
        cv2.imwrite(str(file), stripes(lying, faint, rng))
        rows.append(f"{file},{'lying' if lying else 'standing'},{'faint' if faint else 'clear'},{split}")
    twin = folder / "twin.png"
    twin.write_bytes((folder / "100.png").read_bytes())
    rows.append(f"{twin},standing,clear,test")
    table = folder / "table.csv"
    table.write_text("\n".join(rows))
    return table


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    vf.finetune(str(data), **WORDS, **FAST, out=str(out))
    return out


@pytest.fixture(scope="module")
def said(run) -> str:
    """The words of the report, without pictures and marks."""
    text = re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]+>", " ", (run / "report.html").read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", text))


def test_it_says_what_learnt_what_from_where_and_for_how_long(said, run):
    for fact in (
        "test_resnet learnt to tell lying from standing on 40 images of",
        "48 more served to choose by, 41 were kept for the test",
        "started from random initialisation",
        "all layers, beginning with a random head",
        "Augmentation: light; batches of 16; adamw at a rate of 0.003",
        "Training took 12 steps",
    ):
        assert fact in said
    weights = sum(p.numel() for p in Predictor.load(run).model.parameters())
    assert f"of {weights / 1e6:.2f} M weights" in said


def test_the_answer_stands_before_everything_else(said, run):
    assert said.index("are told right") < said.index("Test images") < said.index("learnt to tell")
    assert re.findall("<h2>(.*?)</h2>", (run / "report.html").read_text()) == [
        "Decision", "By class", "By group", "Answers and how sure they are", "Worst mistakes", "Least certain",
        "Training", "Would more labels help?", "Data", "Cost", "This run",
    ]  # fmt: skip


def test_accuracy_in_words_is_that_of_the_run(said, run):
    accuracy = json.loads((run / "run.json").read_text())["metrics"]["finetuned"]["accuracy"]
    assert f"Of the 41 test images {accuracy:.1%} are told right" in said


def test_the_worst_group_is_the_faint_one(said):
    assert re.search(r"By accuracy: worst faint, 0\.\d+ \(0\.\d+ to [01]\.\d+\) of 20; best clear,", said)


def test_the_file_that_is_on_both_sides_is_shown(said):
    assert "have a twin among the training images (1 identical files" in said


def test_an_image_and_its_map_stand_side_by_side(run):
    text = (run / "report.html").read_text()
    assert "Grad-CAM of the last feature map, 2 x 2 places" in text
    assert re.search(r"right · \d+\.png</span></div>\s*<div><img[^>]*><span>what spoke for it", text)


def test_a_frozen_probe_has_a_report_without_training(data, tmp_path):
    words = {**WORDS, "tune": "probe"}
    vf.finetune(str(data), **words, **FAST, out=str(tmp_path / "run"))
    text = (tmp_path / "run" / "report.html").read_text()
    assert "solved and not trained" in text and "<h2>Training</h2>" not in text


def test_a_rebalanced_run_is_a_run_with_another_head_and_the_same_body(run, data, tmp_path):
    found = vf.rebalance(run, out=tmp_path / "fair", quiet=True)
    assert set(found.before) == {"clear: lying", "clear: standing", "faint: lying", "faint: standing"}
    old, new = (Predictor.load(folder).model.state_dict() for folder in (run, tmp_path / "fair"))
    changed = [name for name in old if not np.array_equal(old[name], new[name])]
    assert changed == ["head.weight", "head.bias"]
    measured = vf.evaluate(str(tmp_path / "fair"), data=str(data), quiet=True)
    assert {"accuracy/clear", "accuracy/faint"} <= measured.keys()
    info = json.loads((tmp_path / "fair" / "run.json").read_text())
    assert info["rebalanced"]["words"] == found.words and "rebalanced" in info["metrics"]


def test_the_command_line_rebalances_as_python_does(run, tmp_path, capsys):
    vf.rebalance(run, out=tmp_path / "python", quiet=True)
    assert main(["rebalance", str(run), f"out={tmp_path / 'shell'}", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "shell")]
    ours, theirs = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("python", "shell"))
    assert ours == theirs


def test_a_head_that_learnt_from_the_validation_images_is_not_rebalanced_on_them(data, tmp_path):
    vf.finetune(str(data), **{**WORDS, "tune": "probe"}, **FAST, out=str(tmp_path / "run"))
    with pytest.raises(vf.ConfigError, match="has learnt from its validation images; name others"):
        vf.rebalance(tmp_path / "run", out=tmp_path / "fair", quiet=True)
    assert not (tmp_path / "fair").exists()


@pytest.mark.parametrize(("words", "says"), [
    ({"folds": 2}, "Each network has learnt from other training images"),
    ({"refit": True}, "has learnt from the validation images, too"),
])  # fmt: skip
def test_no_gap_is_claimed_where_images_are_not_kept_apart(words, says, data, tmp_path):
    vf.finetune(str(data), **{**WORDS, "steps": 4}, **words, **FAST, out=str(tmp_path / "run"))
    text = (tmp_path / "run" / "report.html").read_text()
    assert says in text and "validation images 0." not in text


def test_a_run_without_a_report_answers_alike_and_says_as_much_in_its_json(run, data, tmp_path):
    vf.finetune(str(data), **WORDS, **FAST, report=False, out=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "report.html").exists()
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "run", run))
    assert ours["metrics"] == theirs["metrics"]
