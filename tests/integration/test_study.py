"""A study compares starts on the same test images, and does nothing twice."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import visionft as vf
from visionft.data.records import Record, Table
from visionft.data.split import first_of_each
from visionft.errors import ConfigError


def labelled(folder, count: int = 24):
    """Two classes of gratings, as class folders."""
    import cv2

    rng, (y, x) = np.random.default_rng(0), np.mgrid[:40, :40]
    for at in range(2 * count):
        wave = np.sin((x, y)[at % 2] / rng.uniform(1, 3))
        image = (128 + 60 * wave + rng.normal(0, 40, (40, 40))).clip(0, 255).astype(np.uint8)
        place = folder / ("across", "down")[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{at}.png"), image)
    return folder


WORDS = {
    "backbone": "test_resnet", "weights": "none", "size": 32, "starts": ["scratch", "ssl"], "fractions": [0.2, 1.0],
    "seeds": 2, "pretrain": {"steps": 4, "batch": 8, "minutes": None}, "finetune": {"steps": 2, "batch": 4},
    "cache": "ram", "quiet": True,
}  # fmt: skip


def test_every_cell_is_judged_on_the_same_held_out_images_and_done_once(tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    first = vf.study(str(data), out=str(out), **WORDS)
    assert {(r["start"], r["fraction"], r["seed"]) for r in first.rows} == {
        (start, share, seed) for start in ("scratch", "ssl") for share in (0.2, 1.0) for seed in (0, 1)
    }
    assert {len(r["hits"]) for r in first.rows} == {12}
    assert {r["labels"] for r in first.rows} == {8, 36}
    for row in first.rows:
        assert row["accuracy"] == pytest.approx(row["hits"].count("1") / 12)
    written = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
    again = vf.study(str(data), out=str(out), **WORDS)
    assert again.rows == first.rows
    assert {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")} == written
    assert len(json.loads((out / "study.json").read_text())) == len(first.rows)
    assert first.words in (out / "report.html").read_text()


def test_cells_of_another_study_are_not_taken_for_its_own(tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    words = {**WORDS, "starts": ["scratch"], "fractions": [1.0], "seeds": 1, "out": str(out)}
    vf.study(str(data), **words)
    with pytest.raises(ConfigError, match="another recipe \\(size: 32 there, 64 here"):
        vf.study(str(data), **words | {"size": 64})
    with pytest.raises(ConfigError, match=r"finetune\.steps: 2 there, 3 here"):
        vf.study(str(data), **words | {"finetune": {"steps": 3, "batch": 4}})
    next(data.rglob("*.png")).unlink()
    with pytest.raises(ConfigError, match="on other images"):
        vf.study(str(data), **words)


def test_unlabeled_photos_that_are_test_images_are_left_out(tmp_path, capsys):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    words = {**WORDS, "starts": ["ssl"], "fractions": [1.0], "seeds": 1, "out": str(out), "quiet": False}
    vf.study(str(data), unlabeled=str(data), **words)
    seen = json.loads((out / "fold-0" / "pretrain-ssl" / "run.json").read_text())["data"]["images"]
    assert seen == 36  # of 48, of which 12 are the test split
    assert "12 of 48 unlabeled photos are test images: left out" in capsys.readouterr().err


def test_a_budget_of_ones_own_takes_the_place_of_the_default(tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    how = {"epochs": 1.0, "batch": 4, "tune": "full"}
    words = {**WORDS, "starts": ["scratch"], "fractions": [1.0], "seeds": 1, "finetune": how, "out": str(out)}
    vf.study(str(data), **words)
    told = (next(out.rglob("cells/*/recipe.yaml"))).read_text()
    assert "epochs: 1.0" in told
    assert "steps: null" in told


def test_folds_hold_out_every_image_once_and_go_on_from_fewer(tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    words = {**WORDS, "starts": ["scratch"], "fractions": [1.0], "seeds": 1, "out": str(out)}
    one = vf.study(str(data), **words)
    written = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
    four = vf.study(str(data), folds=4, **words)
    assert {f: f.stat().st_mtime_ns for f in written} == written
    assert [row for row in four.rows if row["fold"] == 0] == one.rows
    assert {row["fold"]: row["labels"] for row in four.rows} == dict.fromkeys(range(4), 36)
    assert four.curves["scratch", "probe"][0][0] == 36
    right = sum(row["hits"].count("1") for row in four.rows if row["answer"] == "probe")
    assert four.curves["scratch", "probe"][0][1] == pytest.approx(right / 48)


def test_objectives_stand_beside_each_other(tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "study"
    starts = ["scratch", "ssl", "scratch+simsiam"]
    words = {
        **WORDS,
        "starts": starts,
        "objective": "vicreg",
        "fractions": [1.0],
        "seeds": 1,
        "finetune": {"tune": "probe"},
    }
    done = vf.study(str(data), **words, out=str(out))
    assert [row["start"] for row in done.rows if row["answer"] == "probe"] == starts
    runs = {name: (out / "fold-0" / f"pretrain-{name}" / "recipe.yaml").read_text() for name in starts[1:]}
    assert "objective: vicreg" in runs["ssl"]
    assert "objective: simsiam" in runs["scratch+simsiam"]
    assert "By SSL rather than simsiam, the linear probe is" in done.words
    page = (out / "report.html").read_text()
    assert page.count("What self-supervision adds") == 1
    assert page.count('<td class="words">scratch + simsiam</td>') == 2  # accuracies, and what it adds to scratch


def test_images_that_a_source_holds_out_are_one_fold(tmp_path):
    data = tmp_path / "data"
    labelled(data / "train"), labelled(data / "test", 8)
    with pytest.raises(ConfigError, match=r"folds=2.*say folds=1"):
        vf.study(str(data), folds=2, **{**WORDS, "out": str(tmp_path / "out")})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"starts": ["scratchy"]}, "scratch"),
        ({"starts": ["scratch", "scratch+simclear"]}, "simclr"),
        ({"starts": ["imagenet"]}, "starts=\\[scratch,ssl\\]"),
        ({"pretrain": {"stepz": 3}}, "steps"),
        ({"fractions": [0.0]}, "fractions=0.0"),
        ({"folds": 5}, "folds=5"),
    ],
)
def test_wrong_words_are_named_before_any_work(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        vf.study(str(tmp_path / "no such folder"), out=str(tmp_path / "out"), **{**WORDS, **words})
    assert not (tmp_path / "out").exists()


def test_a_larger_share_holds_the_smaller_one_and_every_class():
    rng = np.random.default_rng(0)
    records = tuple(Record(np.zeros((2, 2)), label=int(rng.random() < 0.1), digest=str(i)) for i in range(400))
    table = Table(records, classes=("a", "b"))
    shares = [set(first_of_each(table, share, seed=1)) for share in (0.01, 0.1, 0.5, 1.0)]
    for small, large in itertools.pairwise(shares):
        assert small < large
    assert shares[-1] == set(range(400))
    rare = sum(r.label for r in records)
    assert [sum(table[i].label for i in share) for share in shares] == [2, round(0.1 * rare), round(0.5 * rare), rare]
    assert shares[1] != set(first_of_each(table, 0.1, seed=2))


def test_a_share_counts_different_images_and_their_copies_come_along():
    records = tuple(Record(np.zeros((2, 2)), label=i % 2, digest=str(i // 2 * 2 + i % 2)) for i in range(40))
    table = Table((*records, *records), classes=("a", "b"))
    few = first_of_each(table, 0.01, seed=0)
    assert len(few) == 8  # two different images of each class, twice
    assert len({table[i].digest for i in few}) == 4
