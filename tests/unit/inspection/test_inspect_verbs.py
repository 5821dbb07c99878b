"""The verbs of inspection, as a newcomer types them: fit, predict, evaluate, add-defects, and what goes wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.inspection.striped import parts, spoiled
from visionft.cli import main
from visionft.inspection.inspector import Inspector

EYES = "eyes=[{name: patches, layers: [1, 2]}]"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for name, count, bad in (("good", 40, False), ("test/ok", 12, False), ("test/hole", 6, True), ("bad", 6, True)):
        for at in range(count):
            file = root / name / f"{at:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            (image,) = parts(1, len(name) * 100 + at)
            assert cv2.imwrite(str(file), spoiled(image) if bad else image)
    mask = np.zeros((48, 64), np.uint8)
    mask[20:30, 30:42] = 255
    for at in range(6):
        assert cv2.imwrite(str(root / f"test/hole/{at:02}_mask.png"), mask)
    (root / "good/broken.png").write_bytes(b"not a photo")  # left out by `run`, and by what is made of it
    return root


@pytest.fixture(scope="module")
def run(photos) -> Path:
    words = ["weights=none", "backbone=test_resnet", "false_reject=0.05", "bad=skip", EYES]
    assert main(["inspect", "fit", f"data={photos / 'good'}", *words, f"out={photos / 'run'}", "--quiet"]) == 0
    return photos / "run"


def test_a_fitted_inspector_is_a_folder_with_a_report(run):
    assert {file.name for file in run.iterdir()} == {
        "recipe.yaml", "run.json", "report.html", "scorers.safetensors", "backbone.safetensors"
    }  # fmt: skip
    report = (run / "report.html").read_text()
    assert "At most 5 % of good parts are rejected" in report and "takes 999 good photos" in report


def test_predicting_prints_a_line_a_photo_and_writes_what_was_rejected(run, photos, tmp_path, capsys):
    assert main(["inspect", "predict", str(run), str(photos / "test/hole"), f"out={tmp_path / 'v'}", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = list(csv.DictReader((tmp_path / "v/verdicts.csv").read_text().splitlines()))
    assert len(lines) == len(rows) == 12  # masks are photos to someone who only asks for a folder
    rejected = [row for row in rows if row["verdict"] == "reject"]
    assert len(list((tmp_path / "v/overlays").iterdir())) == len(rejected) >= 6
    hole = next(row for row in rows if row["image"].endswith("hole/00.png"))
    assert int(hole["left"]) < 36 < int(hole["right"]) and int(hole["top"]) < 25 < int(hole["bottom"])


def test_evaluating_counts_escapes_and_overkill_and_knows_where(run, photos, capsys):
    assert main(["inspect", "evaluate", str(run), f"data={photos / 'test'}", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "Defects that pass: 0 of 6" in said and "more than was promised (at most 5 %" in said
    found = json.loads((run / "evaluation.json").read_text())
    assert found["auroc"][0] == 1 and found["pixel_auroc"] > 0.9 and found["found_by_kind"]["hole"][0] == 1
    assert "By kind" in (run / "evaluation.html").read_text()


def test_defects_make_another_inspector_of_the_same_photos(run, photos, capsys):
    assert main(["inspect", "add-defects", str(run), f"data={photos / 'bad'}", "--quiet"]) == 0
    other = Path(capsys.readouterr().out.strip())
    assert other.name == "run-defects" and json.loads((other / "run.json").read_text())["learnt"]["defects"] == 6
    assert main(["inspect", "evaluate", str(other), f"data={photos / 'test'}", "--quiet"]) == 0
    assert "Defects that pass: 0 of 6" in capsys.readouterr().out
    report = (other / "report.html").read_text()
    assert "Inspector, taught by defects" in report and "AUROC, held out" in report and "unsure" not in report


def test_a_promise_about_defects_goes_with_the_inspector_and_costs_name_the_cheapest_budget(run, photos, capsys):
    out = run.with_name("asked")
    words = [f"data={photos / 'bad'}", "false_accept=0.2", f"out={out}"]
    assert main(["inspect", "add-defects", str(run), *words, "--quiet"]) == 0
    assert "At most 20 % of defects pass as good, by the scores of 6 held out" in (out / "report.html").read_text()
    doubt = Inspector.load(out).doubt
    assert doubt and len(doubt.scores["bad"]) == 6 and doubt.threshold == min(doubt.scores["bad"])
    costs = ["costs.escape=50", "costs.defects=0.02"]
    assert main(["inspect", "evaluate", str(out), f"data={photos / 'test'}", *costs, "--quiet"]) == 0
    report = (out / "evaluation.html").read_text()
    assert "and 1 without inspection; cheapest on these photos is a budget of" in report and "cost of a part" in report


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "data={good}", "false_rejct=0.1"], "no key false_rejct; did you mean false_reject?"),
        (["fit", "data={good}", "eyes=patchs"], "there is no eye 'patchs'; did you mean patches?"),
        (["fit", "data={good}", "eyes=[{{name: patches, layer: 3}}]"], "no layer; did you mean layers?"),
        (["fit", "data={good}", "false_reject=0.001"], "needs at least 999 good images and there are 40"),
        (["fit", "data={good}", "out={run}"], "holds a finished run"),
        (["fit", "data={good}", "region={none}"], "No such file"),
        (["predict"], "say which inspector and which photos"),
        (["predict", "{good}", "{bad}"], "holds no run"),
        (["evaluate", "{run}", "data={good}"], "holds no annotations"),
        (["add-defects", "{run}", "data={one}", "out={none}"], "takes 6 photos of them, and there are 1"),
        (
            ["add-defects", "{run}", "data={bad}", "false_accept=0.01", "out={none}"],
            "needs at least 99 photos of defects",
        ),
        (["evaluate", "{run}", "data={test}", "costs.escape=9"], "costs take both: costs.escape=50 costs.defects=0.02"),
        (["fitt"], "there is no verb 'inspect fitt'; did you mean inspect fit?"),
    ],
)
def test_what_goes_wrong_is_said_with_what_would_work(run, photos, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    places = {"good": photos / "good", "run": run, "test": photos / "test", "bad": photos / "bad",
              "one": photos / "bad/00.png", "none": tmp_path / "none.png"}  # fmt: skip
    more = ["weights=none", "backbone=test_resnet", "bad=skip"] if words[0] == "fit" else []
    assert main(["inspect", *(word.format(**places) for word in words), *more, "--quiet"]) == 2
    assert said in capsys.readouterr().err
