"""Several networks for one answer, one more on all images, and weights between start and end."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import visionft as vf
from visionft import backbones
from visionft.data.prepare import prepare
from visionft.errors import ConfigError, WeightsError
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.floor import Held
from visionft.tasks.parts import Parts
from visionft.tasks.run import _proven_loss

WORDS = {"size": 32, "batch": 8, "precision": "fp32", "backbone": "test_resnet", "weights": "none", "optim.lr": 3e-4}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """48 pictures: darker or brighter, by a little, in noise, from eight cameras."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    rows = ["path,label,group"]
    for at in range(48):
        pixels = rng.integers(0, 160, (32, 32, 3)) * rng.uniform(0.6, 1) + 25 * (at % 2)
        assert cv2.imwrite(str(folder / f"{at}.png"), pixels.astype(np.uint8))
        rows.append(f"{at}.png,{'bright' if at % 2 else 'dark'},{'abcdefgh'[at // 2 % 8]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def ensemble(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ensemble"
    return vf.finetune(str(labelled), folds=3, steps=6, out=str(out), **WORDS)


def dealt(labelled: Path, **words) -> tuple[Parts, Finetune]:
    recipe = Finetune(data=str(labelled), size=32, **words)
    return Parts.deal(prepare(recipe, Console(quiet=True), labelled=True), recipe), recipe


@pytest.mark.parametrize("by_group", [False, True])
def test_every_training_image_chooses_for_exactly_one_network_and_none_is_lost(labelled, by_group):
    parts, recipe = dealt(labelled, folds=3, by_group=by_group, val=0.3)
    folds = parts.folds(recipe)
    assert sorted(place for fold in folds for place in fold.places["val"]) == sorted(parts.places["train"])
    for fold in folds:
        assert not {*fold.places["train"]} & {*fold.places["val"]}
        assert {*fold.places["train"], *fold.places["val"]} == {*parts.places["train"]}
        assert fold.places["test"] == parts.places["test"]
        if by_group:
            assert not {*fold.train.table.groups} & {*fold.val.table.groups}


def test_validation_is_its_share_of_what_is_not_tested_on_whoever_named_the_test_images(labelled, tmp_path):
    lines = labelled.read_text().splitlines()
    marked = [f"{line},{'test' if at % 4 == 0 else ''}" for at, line in enumerate(lines[1:])]
    named = labelled.with_name("named.csv")
    named.write_text("\n".join([f"{lines[0]},split", *marked]))
    drawn, given = (dealt(source, val=0.25)[0].sizes() for source in (labelled, named))
    assert given == {"train": 27, "val": 9, "test": 12} == drawn


def test_an_ensemble_answers_with_the_mean_of_runs_that_answer_alone(ensemble, labelled):
    pixels = ensemble.test.pixels
    alone = [vf.load(ensemble.out / f"fold-{at}").probabilities(pixels) for at in range(3)]
    assert not torch.allclose(alone[0], alone[1], atol=1e-4)
    together = vf.load(ensemble.out)
    together.decision = type(together.decision).plain(2)
    heard: list[tuple[int, int]] = []
    said = together.probabilities(pixels, batch=5, progress=lambda done, whole: heard.append((done, whole)))
    assert torch.allclose(said, torch.stack(alone).mean(0), atol=1e-6)
    assert [done for done, _ in heard] == [5, 10, 12, 17, 22, 24, 29, 34, 36] and {whole for _, whole in heard} == {36}


def test_a_saved_ensemble_predicts_what_it_predicted_in_memory(ensemble, labelled):
    images = [str(file) for file in sorted(labelled.parent.glob("*.png"))]
    assert vf.load(ensemble.out).predict(images) == ensemble.predictor.predict(images)


def test_to_go_on_from_an_ensemble_one_of_its_networks_is_named(ensemble):
    with pytest.raises(WeightsError, match="fold-0"):
        backbones.load(str(ensemble.out))
    assert backbones.load(str(ensemble.out / "fold-0")).loaded.loaded


def test_an_ensemble_that_was_interrupted_goes_on_and_ends_alike(ensemble, labelled, tmp_path):
    seen = []

    def stop(step, metrics):
        seen.append(step)
        if len(seen) > 8 and step == 4:
            raise KeyboardInterrupt

    words = {**WORDS, "folds": 3, "steps": 6, "out": str(tmp_path / "run"), "log_every": 1, "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        vf.finetune(str(labelled), log=[stop], **words)
    assert not (tmp_path / "run" / "run.json").exists()
    again = vf.finetune(str(labelled), **words)
    for at in range(3):
        a, b = (load_file(run / f"fold-{at}" / "model.safetensors") for run in (ensemble.out, again.out))
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_refit_learns_from_the_validation_images_for_as_many_passes_as_were_best(labelled, tmp_path):
    words = {**WORDS, "steps": 8, "eval_every": 2, "val": 0.3, "optim.lr": 1e-5}
    run = vf.finetune(str(labelled), refit=True, out=str(tmp_path / "refit"), **words)
    plain = vf.finetune(str(labelled), out=str(tmp_path / "plain"), **words)
    parts, _ = dealt(labelled, val=0.3)
    more = len(parts.known.table) / len(parts.train.table)
    assert run.fitted.steps == round(8 * more) > 8 == plain.fitted.best_step
    assert {*parts.all_learned().places["train"]} == {*parts.places["train"], *parts.places["val"]}
    assert not torch.equal(run.probabilities["finetuned"], plain.probabilities["finetuned"])
    assert run.predictor.decision.temperature == 1  # no image is left that this network has not learned from


def test_where_no_step_was_better_than_the_start_a_refit_is_a_probe_of_all_known_images(labelled, tmp_path):
    words = {**WORDS, "steps": 4, "eval_every": 2, "val": 0.3, "optim.lr": 1.0}
    run = vf.finetune(str(labelled), refit=True, out=str(tmp_path / "run"), **words)
    assert run.fitted.best_step == 0
    assert torch.allclose(run.probabilities["finetuned"], run.probabilities["probe"], atol=0.02)  # features in bf16


@pytest.mark.parametrize("folds", [1, 2])
def test_training_that_is_proven_to_have_made_it_worse_does_not_answer(labelled, tmp_path, capsys, folds):
    words = {**WORDS, "steps": 4, "val": 0.5, "optim.lr": 1.0, "folds": folds}
    run = vf.finetune(str(labelled), out=str(tmp_path / "run"), **words)
    assert "training made it worse" in capsys.readouterr().err
    assert len(run.learned) == 1 and run.fitted.best_step == 0
    assert (run.probabilities["finetuned"].argmax(1) == run.test.labels).float().mean() > 0.8
    assert "the weights of the start were kept" in (run.out / "report.html").read_text()
    kept = vf.load(run.out).probabilities(run.test.pixels)
    assert torch.allclose(kept, run.probabilities["finetuned"], atol=1e-6)


def test_balanced_training_is_judged_by_classes_and_not_by_images():
    """Nine in ten are common: a network that finds the rare ones at the price of some common ones is no worse."""
    labels = torch.tensor([0] * 900 + [1] * 100)
    probe, network = torch.zeros(1000, 2), torch.zeros(1000, 2)
    probe[:, 0] = 1.0  # all common
    network[torch.arange(1000), labels] = 1.0
    network[:200] = torch.tensor([0.0, 1.0])  # every rare one is found, 200 common ones are not
    held = Held(network, labels)
    assert _proven_loss(probe, held).startswith("-10.0 points")
    assert _proven_loss(probe, held, evenly=True) == ""
    assert _proven_loss(network, Held(probe, labels), evenly=True).startswith("-38.9 points")  # of the mean recall


def test_an_average_lies_between_start_and_end_and_is_no_worse_on_validation(labelled, tmp_path):
    words = {**WORDS, "steps": 8, "patience": 0, "optim.lr": 0.03}
    plain = vf.finetune(str(labelled), out=str(tmp_path / "plain"), **words)
    mixed = vf.finetune(str(labelled), average=True, out=str(tmp_path / "mixed"), **words)
    assert mixed.learned[0].share in (0.25, 0.5, 0.75, 1.0)
    a, b = (load_file(run.out / "model.safetensors")["head.weight"] for run in (plain, mixed))
    assert torch.equal(a, b) == (mixed.learned[0].share == 1)


def test_answers_are_kept_for_whoever_measures_something_else(ensemble):
    kept = load_file(ensemble.out / "answers.safetensors")
    assert torch.equal(kept["test/finetuned"], ensemble.probabilities["finetuned"])
    assert torch.equal(kept["test/labels"], ensemble.test.labels)
    assert torch.equal(kept["validation/finetuned"], ensemble.validation["finetuned"])
    assert len(kept["validation/labels"]) == len(ensemble.val.table)


def test_the_decision_of_a_run_is_in_its_json_and_in_its_predictions(ensemble, labelled):
    info = json.loads((ensemble.out / "run.json").read_text())
    assert info["decision"]["test"] == ensemble.decided
    said = vf.load(ensemble.out).predict(str(next(labelled.parent.glob("*.png"))))[0]
    assert said.unsure == (len(said.plausible) != 1) or not said.plausible


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"tune": "probe", "folds": 2}, "folds"),
        ({"tune": "probe", "average": True}, "average"),
        ({"folds": 2, "refit": True}, "exclude"),
        ({"tune": "full", "average": True}, "probe-then-full"),
        ({"refit": True, "average": True}, "share of the way"),
        ({"sampler": "balanced", "task": {"name": "classify", "balance": "logit"}}, "twice"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_before_any_work(labelled, tmp_path, words, why):
    with pytest.raises(ConfigError, match=why):
        vf.finetune(str(labelled), out=str(tmp_path / "no"), **WORDS, **words)
    assert not (tmp_path / "no").exists()


def estimate(lines: list[str]) -> tuple[int, str]:
    """Steps of one training, and what is said of the time."""
    said = dict(line.split(": ", 1) for line in lines if line.startswith(("steps: ", "time: ")))
    return int(said["steps"].split()[0]), said["time"]


def test_a_dry_run_counts_every_training_of_an_ensemble_and_of_a_refit(labelled, tmp_path):
    words = {**WORDS, "dry_run": True, "out": str(tmp_path / "no")}
    words = {key: value for key, value in words.items() if key != "steps"} | {"epochs": 8}
    one, _ = estimate(vf.finetune(str(labelled), **words))
    each, several = estimate(vf.finetune(str(labelled), folds=4, **words))
    assert each == pytest.approx(0.75 * one, abs=1.5) and "for 4 trainings, one after the other" in several
    _, twice = estimate(vf.finetune(str(labelled), refit=True, **words))
    assert "for 2 trainings" in twice
    timed = {key: value for key, value in words.items() if key != "epochs"} | {"minutes": 3.0}
    lines = vf.finetune(str(labelled), folds=4, **timed)
    assert any(line.startswith("time: about 3 min 00 s for 4 trainings") for line in lines)
