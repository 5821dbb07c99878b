"""The ladder climbs as far as validation images say it pays, and nothing about the test images changes that."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import visionft as vf
from visionft.errors import ConfigError
from visionft.journeys.ladder import Rung

WORDS = {"size": 32, "batch": 8, "precision": "fp32", "backbone": "test_resnet", "weights": "none", "steps": 6}
RUNGS = ["probe", "probe-then-full", "layerwise", "soup", "folds"]


def pictures(folder: Path, *, upside_down: bool = False) -> Path:
    """60 pictures, darker or brighter by a little, in noise; of the 16 test images the labels can be exchanged."""
    rng, rows = np.random.default_rng(0), ["path,label,split"]
    for at in range(60):
        pixels = rng.integers(0, 160, (32, 32, 3)) * rng.uniform(0.5, 1) + 20 * (at % 2)
        assert cv2.imwrite(str(folder / f"{at}.png"), pixels.astype(np.uint8))
        split = "test" if at < 16 else "train" if at < 44 else "val"
        bright = bool(at % 2) != (upside_down and split == "test")
        rows.append(f"{at}.png,{'bright' if bright else 'dark'},{split}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def climbed(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "all"
    return vf.finetune(str(labelled), tune="auto:all", out=str(out), **WORDS)


def rows(run: Path) -> list[dict]:
    return json.loads((run / "run.json").read_text())["ladder"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    files = sorted(run.glob("model.safetensors")) or sorted(run.glob("fold-*/model.safetensors"))
    return {f"{file.parent.relative_to(run)}/{k}": v for file in files for k, v in load_file(file).items()}


def test_every_rung_is_reported_and_the_one_with_the_lowest_loss_answers(climbed):
    found = rows(climbed.out)
    assert [row["rung"] for row in found] == RUNGS
    chosen = [row for row in found if row["chosen"]]
    assert len(chosen) == 1
    assert chosen[0]["loss"] == min(row["loss"] for row in found)
    report = (climbed.out / "report.html").read_text()
    assert all(name in report for name in RUNGS)


def test_the_soup_is_no_worse_on_validation_than_what_it_was_made_of(climbed):
    loss = {row["rung"]: row["loss"] for row in rows(climbed.out)}
    assert loss["soup"] <= min(loss["probe-then-full"], loss["layerwise"]) + 1e-6


@pytest.mark.parametrize("words", [{}, {"adapter": "lora", "backbone": "test_vit"}])
def test_the_networks_of_the_ensemble_learn_in_the_way_that_did_best(climbed, labelled, tmp_path, words):
    run = vf.finetune(str(labelled), tune="auto:all", out=str(tmp_path), **WORDS | words) if words else climbed
    first, second, *_ = (row for row in rows(run.out) if row["rung"] not in ("probe", "soup"))
    best = first if first["loss"] <= second["loss"] else second
    taken = yaml.safe_load((run.out / "rungs" / "folds" / "recipe.yaml").read_text())
    wanted = "layerwise" if best["rung"] == "layerwise" else "probe-then-full"
    assert taken["tune"] == wanted
    assert (taken["adapter"] == "none") == (best["rung"] != "adapter")


def test_what_was_climbed_to_is_a_run_like_any_other(climbed, labelled):
    images = [str(labelled.parent / f"{at}.png") for at in range(16)]
    assert vf.load(climbed.out).predict(images) == climbed.predictor.predict(images)


def test_labels_of_test_images_change_nothing_that_is_kept(climbed, tmp_path):
    other = vf.finetune(str(pictures(tmp_path, upside_down=True)), tune="auto:all", out=str(tmp_path / "run"), **WORDS)
    ours, theirs = weights(climbed.out), weights(other.out)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for a, b in zip(rows(climbed.out), rows(other.out), strict=True):
        assert (a["rung"], a["loss"], a["gain"], a["chosen"]) == (b["rung"], b["loss"], b["gain"], b["chosen"])
    assert other.predictor.decision == climbed.predictor.decision
    assert other.metrics["finetuned"]["accuracy"] == pytest.approx(1 - climbed.metrics["finetuned"]["accuracy"])


def test_a_climb_stops_where_it_does_not_pay(labelled, tmp_path):
    """A rate of zero changes nothing, so the second rung gains nothing."""
    run = vf.finetune(str(labelled), tune="auto", out=str(tmp_path / "run"), **{**WORDS, "optim.lr": 1e-30})
    found = rows(run.out)
    assert [row["rung"] for row in found] == ["probe", "probe-then-full"]
    assert found[1]["gain"][0] == pytest.approx(0, abs=1e-2)  # features of the probe were taken in bf16


def test_an_interrupted_climb_goes_on_without_repeating_a_rung(climbed, labelled, tmp_path):
    seen = []

    def stop(step, metrics):
        seen.append(step)
        if step == 3 and any(a > b for a, b in itertools.pairwise(seen)):  # in the second network that is trained
            raise KeyboardInterrupt

    words = {**WORDS, "tune": "auto:all", "out": str(tmp_path / "run"), "log_every": 1, "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        vf.finetune(str(labelled), log=[stop], **words)
    before = (tmp_path / "run/rungs/probe-then-full/model.safetensors").stat().st_mtime_ns
    again = vf.finetune(str(labelled), **words)
    assert (tmp_path / "run/rungs/probe-then-full/model.safetensors").stat().st_mtime_ns == before
    ours, theirs = weights(climbed.out), weights(again.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("key", [{"folds": 3}, {"average": True}, {"refit": True}])
def test_what_the_ladder_finds_out_itself_is_refused_as_a_key(labelled, tmp_path, key):
    with pytest.raises(ConfigError, match=next(iter(key))):
        vf.finetune(str(labelled), tune="auto", out=str(tmp_path / "no"), **WORDS, **key)


def test_a_rung_pays_only_beyond_its_interval(climbed):
    rung = Rung("x", climbed, np.ones(9))
    assert rung.pays
    for gain, pays in (((0.2, 0.1, 0.3), True), ((0.2, -0.01, 0.4), False), ((-0.2, -0.3, -0.1), False)):
        rung.gain = gain
        assert rung.pays == pays


def test_a_dry_run_names_the_rungs_and_writes_nothing(labelled, tmp_path):
    said = "\n".join(vf.finetune(str(labelled), tune="auto", dry_run=True, out=str(tmp_path / "no"), **WORDS))
    assert all(name in said for name in ("probe", "layerwise", "soup", "3 folds"))
    assert not (tmp_path / "no").exists()


def test_the_adapter_of_the_chosen_rung_lies_where_those_of_any_run_do(labelled, tmp_path, monkeypatch):
    """Whichever rung is chosen on these few images, it is an adapter's."""
    out = tmp_path / "run"
    monkeypatch.setattr("visionft.journeys.ladder.min", lambda rungs, key: rungs[len(rungs) > 1], raising=False)
    done = vf.finetune(str(labelled), tune="auto", adapter="lora", out=str(out), quiet=True, **WORDS)
    assert done.recipe.adapter == "lora"
    kept = {str(file.relative_to(out)) for file in out.rglob("adapter_model.safetensors")}
    assert kept == {"adapter/adapter_model.safetensors", "rungs/adapter/adapter/adapter_model.safetensors"}
