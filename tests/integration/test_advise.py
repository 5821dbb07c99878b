"""Advice on small real files: true numbers, commands that run, nothing written unasked, clear words where it cannot."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import visionft as vf
from visionft.cli import main
from visionft.journeys import advise as journey

WORDS: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "size": 32, "cache": "ram", "quiet": True}


def parts(folder: Path, good: int = 60, bad: int = 60, side: int = 40) -> Path:
    """Two kinds of parts: flat noise, and noise with a bright bar."""
    rng = np.random.default_rng(0)
    for name, count in (("good", good), ("bad", bad)):
        (folder / name).mkdir(parents=True)
        for at in range(count):
            image = rng.integers(60, 120, (side, side, 3))
            if name == "bad":
                image[:, at % (side - 8) : at % (side - 8) + 8] += 100
            assert cv2.imwrite(str(folder / name / f"{at}.png"), image.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Sixty of each class; one file is damaged, one is there twice under two labels, one is nearly a copy."""
    folder = parts(tmp_path_factory.mktemp("advise") / "my parts")
    (folder / "bad" / "torn.png").write_bytes((folder / "bad" / "0.png").read_bytes()[:200])
    (folder / "bad" / "same.png").write_bytes((folder / "good" / "7.png").read_bytes())
    image = cv2.imread(str(folder / "bad" / "9.png"))
    assert cv2.imwrite(str(folder / "bad" / "near.png"), image + np.uint8(3))
    return folder


@pytest.fixture(scope="module")
def advice(labelled):
    return vf.advise(str(labelled), **WORDS)


def test_what_is_wrong_with_the_files_is_found(advice):
    said = {one.topic: f"{one.what} {one.evidence}" for one in advice.findings}
    assert "1 file cannot be read" in said["files"] and "bad/torn.png" in said["files"]
    assert "bad/same.png" in said["labels"] and "good/7.png" in said["labels"]
    assert "bad/9.png and bad/near.png" in said["copies"]


def test_numbers_stand_on_images_that_are_not_for_testing(advice):
    measured = advice.facts["measured"]
    assert measured["images"] + measured["aside"] == sum(advice.facts["data"]["classes"].values()) == 122
    mean, low, high = measured["probe"]
    assert low <= mean <= high and mean > measured["chance"][0]
    assert json.loads(json.dumps(advice.facts))["size"] == 32


def test_the_page_says_the_command_first_and_fits_a_terminal(advice):
    page = advice.lines()
    assert page[2].startswith("RUN THIS (about ")
    assert all(len(line) <= 100 for line in page)
    joined = " ".join(line.strip().removesuffix("\\").strip() for line in page)
    assert advice.commands["finetune"] in joined


def test_the_command_runs_and_tests_on_the_images_that_were_set_aside(advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(advice.commands["finetune"])
    assert words[:2] == ["visionft", "finetune"] and "bad=skip" in words
    assert main([*words[1:], "cache=ram", "epochs=1", "--quiet"]) == 0
    info = json.loads(next(tmp_path.glob("runs/*/run.json")).read_text())
    assert info["data"]["test"] == advice.facts["measured"]["aside"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("groups", [0, 12])
def test_images_that_fine_tuning_will_test_on_are_never_measured(labelled, tmp_path, monkeypatch, seed, groups):
    rows = ["path,label,group"]
    files = [f for f in sorted(labelled.glob("*/*.png")) if f.stem.isdigit()][:97]
    rows += [f"{f},{f.parent.name},{f'lot {int(f.stem) % groups}' if groups else ''}" for f in files]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    seen: set[str] = set()
    look = journey.measured

    def spy(looked, *rest):
        seen.update(record.name for record in looked.some.table)
        return look(looked, *rest)

    monkeypatch.setattr(journey, "measured", spy)
    found = vf.advise(str(tmp_path / "labels.csv"), seed=seed, **WORDS)
    assert ("by_group=true" in found.commands["finetune"]) == bool(groups)
    assert (found.facts["measured"]["new_groups"] is not None) == bool(groups)
    words = WORDS | {"tune": "probe", "seed": seed, "by_group": bool(groups), "out": str(tmp_path / "run")}
    tested = vf.finetune(str(tmp_path / "labels.csv"), **words).test.table
    assert len(seen) + len(tested) == 97 and not seen & {record.name for record in tested}


def test_nothing_is_written_unless_a_report_is_asked_for(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["advise", f"data={labelled}", *(f"{k}={v}" for k, v in WORDS.items() if k != "quiet"), "--quiet"]
    assert main(words) == 0
    assert not [*tmp_path.iterdir()]
    assert main([*words, f"unlabeled={labelled / 'good'}", "out=page/advice.html"]) == 0
    assert "Of 60 photos opened" in " ".join(capsys.readouterr().out.split())
    html = (tmp_path / "page" / "advice.html").read_text()
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["advice.html"]
    assert "visionft finetune" in html and "Some of every class" in html and "quick classifier finds" in html


def test_dark_files_of_a_12_bit_camera_are_measured_as_the_camera_meant_them(tmp_path):
    rng = np.random.default_rng(0)
    for at in range(40):
        place = tmp_path / ("dark", "light")[at % 2]
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 2000, (32, 32)) + (2000 if at % 2 else 0)
        assert cv2.imwrite(str(place / f"{at}.png"), pixels.astype(np.uint16))
    found = vf.advise(str(tmp_path), **WORDS)
    assert "white=4095" in found.commands["finetune"]
    assert {"depth", "gray"} <= {one.topic for one in found.findings}
    assert found.facts["measured"]["probe"][0] == 1.0


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (1, 1, "'bad' has 1, 'good' has 1. Every class needs at least 3"),
        (30, 2, "'bad' has 2"),
        (30, 0, "only one class"),
    ],
)
def test_too_few_images_are_an_error_that_says_how_many_it_takes(tmp_path, good, bad, said):
    with pytest.raises(vf.DataError, match=said.replace(".", r"\.")):
        vf.advise(str(parts(tmp_path / "few", good, bad)), **WORDS)


def test_a_rare_class_is_measured_at_every_size_and_in_every_sample(tmp_path):
    folder = parts(tmp_path / "rare", good=400, bad=4, side=56)
    found = vf.advise(str(folder), **WORDS | {"most": 50})
    assert [one["size"] for one in found.facts["measured"]["sizes"]] == [32, 56]
    assert found.facts["measured"]["images"] <= 55 and found.facts["measured"]["fewest"] == 3
    assert "tune=probe" in found.commands["finetune"] and "'bad' has 4" in "\n".join(found.page)


def test_a_wrong_word_is_named_with_the_nearest_right_one(capsys):
    assert main(["advise", "data=x", "unlabelled=y"]) == 2
    assert "did you mean unlabeled?" in capsys.readouterr().err
