"""Columns learnt by several networks, each without another part of the training images, that answer with their mean."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import visionft as vf
from visionft.multihead.predictor import HeadsPredictor

WORDS: dict[str, Any] = {
    "backbone": "test_resnet", "weights": "none", "size": 32, "batch": 8, "precision": "fp32", "val": 0.25, "folds": 3,
    "steps": 4, "eval_every": 2, "optim.lr": 1e-4, "tune": "full",
    "target": "depth_mm,blob", "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Pictures whose brightness is a part of their depth, some with a blob; cameras take turns by fours."""
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    rows = [["path", "depth_mm", "blob", "group"]]
    for at in range(60):
        bright, blob = rng.uniform(40, 200), at % 3 == 0
        image = rng.normal(bright, 8, (32, 32, 3))
        image[8:20, 8:20] += 50 * blob
        assert cv2.imwrite(str(folder / f"{at}.png"), image.clip(0, 255).astype(np.uint8))
        rows.append([f"{at}.png", f"{bright / 30 + rng.normal(0, 2):.3f}", str(int(blob)), f"camera {at // 4}"])
    with (folder / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "parts.csv"


@pytest.fixture(scope="module")
def ensemble(parts, tmp_path_factory):
    return vf.finetune(str(parts), **WORDS, out=str(tmp_path_factory.mktemp("runs") / "ensemble"))


def test_each_network_learns_without_another_part_of_the_training_images(ensemble, parts):
    dealt = ensemble.dealt
    folds = dealt.folds(ensemble.recipe)
    train, left = set(dealt.parts.places["train"]), [set(own.parts.places["val"]) for own in folds]
    assert set.union(*left) == train and sum(map(len, left)) == len(train)
    assert all(set(own.parts.places["train"]) == train - out for own, out in zip(folds, left, strict=True))
    assert all(own.targets == dealt.targets for own in folds)
    flags = [own.values(own.parts.val)[:, 0].mean() for own in folds]
    assert max(flags) - min(flags) < 0.15  # strata by the columns


def test_groups_stay_together(parts, tmp_path):
    run = vf.finetune(str(parts), **WORDS, by_group=True, out=str(tmp_path))
    cameras = [set(own.parts.val.table.groups) for own in run.dealt.folds(run.recipe)]
    assert not cameras[0] & cameras[1] and not cameras[0] & cameras[2] and not cameras[1] & cameras[2]


def test_the_answer_is_the_mean_of_the_networks_and_a_loaded_run_gives_it(ensemble):
    pixels = ensemble.dealt.parts.test.pixels
    apart = [HeadsPredictor.load(ensemble.out / f"fold-{at}").numbers(pixels) for at in range(3)]
    assert not np.allclose(apart[0], apart[1])
    np.testing.assert_allclose(np.mean(apart, axis=0), ensemble.said["finetuned"], atol=1e-5)
    whole = vf.load(ensemble.out)
    assert len(whole.networks) == 3 and whole.rules.keys() == {"depth_mm", "blob"}
    np.testing.assert_allclose(whole.numbers(pixels), ensemble.said["finetuned"], atol=1e-5)
    told = json.loads((ensemble.out / "run.json").read_text())
    assert told["networks"] == ["fold-0", "fold-1", "fold-2"]
    assert "rules" not in json.loads((ensemble.out / "fold-0" / "run.json").read_text())
    assert "mean of 3 such networks" in (ensemble.out / "report.html").read_text()


def test_an_interrupted_ensemble_goes_on_with_the_network_it_was_at(parts, ensemble, tmp_path):
    begun: list[int] = []

    def stop(step: int, metrics: dict[str, float]) -> None:
        begun.append(step)
        if begun.count(1) == 2:
            raise KeyboardInterrupt

    words = {**WORDS, "out": str(tmp_path / "run"), "log_every": 1, "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        vf.finetune(str(parts), log=[stop], **words)
    again = vf.finetune(str(parts), **words)
    for at in range(3):
        ours, theirs = (load_file(run / f"fold-{at}" / "model.safetensors") for run in (again.out, ensemble.out))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_adapters_of_several_networks_are_kept_apart(parts, tmp_path):
    run = vf.finetune(str(parts), **WORDS, adapter="lora", out=str(tmp_path))
    assert all((tmp_path / f"fold-{at}" / "adapter").is_dir() for at in range(3))
    pixels = run.dealt.parts.test.pixels
    np.testing.assert_allclose(vf.load(tmp_path).numbers(pixels), run.said["finetuned"], atol=1e-4)


def test_folds_and_a_refit_exclude_each_other(parts, tmp_path):
    with pytest.raises(vf.ConfigError, match="exclude each other"):
        vf.finetune(str(parts), **WORDS, refit=True, out=str(tmp_path))


def test_a_dry_run_counts_every_network(parts, tmp_path):
    lines = vf.finetune(str(parts), **WORDS, dry_run=True, out=str(tmp_path / "no"))
    assert any("for 3 trainings, one after the other" in line for line in lines)
