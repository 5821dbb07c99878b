"""A run that is to forget nothing: what it saves, what it says was forgotten, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import visionft as vf
from visionft import backbones
from visionft.cli import main
from visionft.errors import VisionftError
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.retention.forgotten import Judge
from visionft.retention.retained import retained
from visionft.tasks.run import Finetuned

FAST: dict[str, Any] = {"size": 32, "batch": 8, "precision": "fp32", "patience": 0, "quiet": True}
KEEP = {
    "l2sp": {},
    "ewc": {"count": 4},
    "lwf": {"what": "features", "weight": 3},
    "replay": {"what": "features", "weight": 3},
    "wise": {"share": 0.5},
}


def folder(place: Path, kinds: dict[str, int], seed: int) -> Path:
    """Ten pictures a class, of stripes whose period tells it."""
    rng = np.random.default_rng(seed)
    for kind, period in kinds.items():
        (place / kind).mkdir(parents=True)
        for at in range(10):
            wave = np.sin(2 * np.pi * (np.arange(32) + rng.uniform(0, period)) / period)
            pixels = 128 + 80 * wave[None, :, None] + rng.normal(0, 20, (32, 32, 3))
            assert cv2.imwrite(str(place / kind / f"{at}.png"), pixels.clip(0, 255).astype(np.uint8))
    return place


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> Path:
    return folder(tmp_path_factory.mktemp("new"), {"fine": 4, "coarse": 16}, 0)


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    return folder(tmp_path_factory.mktemp("known"), {"dense": 3, "even": 8, "loose": 24}, 1)


@pytest.fixture(scope="module")
def first(known, tmp_path_factory) -> Path:
    """A run that has learnt the old classes."""
    out = tmp_path_factory.mktemp("first") / "run"
    vf.finetune(str(known), backbone="test_resnet", weights="none", steps=20, out=str(out), **FAST)
    return out


@pytest.fixture(scope="module")
def tuned(first, new, known, tmp_path_factory):
    """Go on from the first run to the new classes, plainly or with a remedy."""
    made: dict[str, Finetuned] = {}

    def tune(name: str) -> Finetuned:
        if name not in made:
            keep = {"name": name, **KEEP[name]} if name != "none" else "none"
            out = tmp_path_factory.mktemp(name) / "run"
            words = {"steps": 12, "optim": {"lr": 3e-3}, "keep": keep, "retained": str(known), "out": str(out)}
            made[name] = vf.finetune(str(new), backbone=str(first), **words, **FAST)
        return made[name]

    return tune


def said(run: Finetuned) -> dict[str, Any]:
    return json.loads((run.out / "run.json").read_text())


@pytest.mark.parametrize("name", KEEP)
def test_a_kept_run_is_saved_as_a_plain_one_and_answers(tuned, name, new):
    plain, kept = (load_file(tuned(which).out / "model.safetensors") for which in ("none", name))
    assert plain.keys() == kept.keys()
    assert any(not torch.equal(plain[key], kept[key]) for key in plain)
    run = tuned(name)
    assert vf.load(str(run.out)).predict(str(new)) == run.predictor.predict(str(new))


@pytest.mark.parametrize("name", ["none", *KEEP])
def test_the_way_begins_at_the_start_and_ends_at_what_is_saved(tuned, name):
    found = said(tuned(name))["forgetting"]
    first, *_, last = found["sweep"]
    ways = {"share", "target", "target_low", "target_high", "front"}
    assert {k: v for k, v in first.items() if k not in ways} == found["start"]
    assert {k: v for k, v in last.items() if k not in ways} == found["saved"]
    assert [row["share"] for row in found["sweep"]] == [0, 0.25, 0.5, 0.75, 1]
    assert (found["start"]["cka"], found["start"]["drift"]) == (pytest.approx(1), 0)
    assert found["saved"]["drift"] > 0
    assert max(row["cka"] for row in found["stages"]) <= 1 + 1e-9


def test_the_old_classifier_is_asked_as_it_was_on_images_that_no_remedy_saw(tuned, first, known):
    info, old = said(tuned("none")), vf.load(str(first))
    recipe = Finetune(retained=str(known), size=32)
    halves = retained(recipe, Console(quiet=True))
    assert halves is not None
    assert not {r.name for r in halves.memory.table} & {r.name for r in halves.judged.table}
    assert (info["forgetting"]["judged"], info["forgetting"]["memory"]) == (15, 15)
    right = [p.label == Path(p.image).parent.name for p in old.predict([r.name for r in halves.judged.table])]
    assert info["forgetting"]["start"]["old_accuracy"] == pytest.approx(np.mean(right))
    judge = Judge(halves.judged, 32, backbones.load(str(first)).loaded.head)
    assert (
        judge.look(tuned("none").predictor.model.backbone).right.mean() == info["forgetting"]["saved"]["old_accuracy"]
    )


def test_remedies_keep_features_nearer_to_the_start_than_none_does(tuned):
    moved = {name: said(tuned(name))["forgetting"]["saved"]["drift"] for name in ("none", *KEEP)}
    assert all(moved[name] < moved["none"] for name in KEEP), moved


def test_the_report_and_the_recipe_say_so(tuned):
    page = (tuned("replay").out / "report.html").read_text()
    assert "Forgetting" in page
    assert "the old classifier is right" in page
    assert "on the front" in page
    assert "name: replay" in (tuned("replay").out / "recipe.yaml").read_text()


def test_retained_photos_need_no_labels(first, new, known, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in known.rglob("*.png"):
        (flat / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    words = {"steps": 2, "retained": str(flat), "keep": "replay", "out": str(tmp_path / "run")}
    run = vf.finetune(str(new), backbone=str(first), **words, **FAST)
    saved = said(run)["forgetting"]["saved"]
    assert "agreement" in saved
    assert "old_accuracy" not in saved


def test_an_adapter_is_kept_by_what_the_network_said_without_it(first, new, known, tmp_path):
    words = {"steps": 4, "retained": str(known), "keep": "lwf", "adapter": "bottleneck", "out": str(tmp_path / "run")}
    found = said(vf.finetune(str(new), backbone=str(first), **words, **FAST))["forgetting"]
    assert len(found["sweep"]) == 1  # a bottleneck is no plain weight: there is no way to go
    assert found["saved"]["drift"] > 0


def test_a_dry_run_plans_with_the_remedy_and_writes_nothing(first, new, known, tmp_path, capsys):
    words = [f"data={new}", f"backbone={first}", f"retained={known}", "keep.name=replay", "keep.every=4", "size=32"]
    assert main(["finetune", *words, "batch=8", f"out={tmp_path / 'run'}", "--dry-run", "--quiet"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ({"keep": {"name": "lwf", "what": "answers"}, "backbone": "test_resnet"}, "bring a classifier"),
        ({"keep": "replay"}, "retained=photos/"),
        ({"retained": "nowhere"}, "does not exist"),
        ({"retained": "x", "tune": "auto"}, "by the new task alone"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(words, wrong, new, tmp_path):
    given = {"backbone": "test_resnet", "weights": "none", **FAST, **words}
    with pytest.raises(VisionftError, match=wrong):
        vf.finetune(str(new), **given, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
