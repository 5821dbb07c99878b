"""Of all the weights a run has seen the right ones are kept, it is said which and why, and the rows beside are fair."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from visionft import backbones
from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.evaluation.worth import Labelled
from visionft.log import Console, read_metrics
from visionft.objective import Objective
from visionft.pretraining import average, baselines
from visionft.pretraining.choose import Kept, choose, remembering
from visionft.pretraining.run import Pretrained, pretrain
from visionft.recipe import Optim, Pretrain
from visionft.train import fit


class Scripted:
    """Evaluations that say what they are told to, and remember the weights they saw."""

    def __init__(self, name: str, values: Sequence[float], fallen: str = "") -> None:
        self.name, self.values, self.fallen = name, list(values), fallen
        self.seen: list[dict[str, float]] = []
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, model: Objective) -> dict[str, float]:
        self.seen.append({"effective_rank": 9.0, self.name: self.values[len(self.seen)]})
        self.states.append({k: v.clone() for k, v in model.state_dict().items()})
        return self.seen[-1]


def trained(make_objective, make_data, watch: Scripted, labels: bool, **words: Any) -> tuple[Objective, Kept]:
    """Four steps, evaluated at the start and after each."""
    model = make_objective("simclr")
    recipe = Pretrain(steps=4, batch=8, precision="fp32", eval_every=1, **words)
    fitted = fit(model, make_data(model), remembering(recipe, labels), evaluate=watch)
    return model, choose(model, fitted, recipe, watch, labels)  # type: ignore[arg-type]


def same(model: Objective, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_with_labels_the_weights_of_the_best_probe_are_kept_and_it_is_said_when_and_why(make_objective, make_data):
    watch = Scripted("probe_log_loss", [0.9, 0.7, 0.4, 0.6, 0.5])
    model, kept = trained(make_objective, make_data, watch, labels=True)
    assert same(model, watch.states[2])
    assert kept.step == 2
    assert "step 2 of 4" in kept.why and "log-loss of the probe, 0.4; at the end it was 0.5" in kept.why


def test_weights_that_were_there_before_are_not_handed_back_as_if_trained(make_objective, make_data):
    watch = Scripted("probe_log_loss", [0.1, 0.7, 0.4, 0.6, 0.5])
    model, kept = trained(make_objective, make_data, watch, labels=True)
    assert same(model, watch.states[-1])
    assert (kept.step, "no evaluation had a better log-loss of the probe than the start" in kept.why) == (4, True)


def test_without_labels_a_lower_rank_at_the_end_is_no_reason_to_go_back(make_objective, make_data):
    watch = Scripted("effective_rank", [38.0, 30.0, 6.0, 9.0, 12.0])
    model, kept = trained(make_objective, make_data, watch, labels=False)
    assert same(model, watch.states[-1])
    assert kept.step == 4


def test_without_labels_a_collapse_is_a_reason_and_it_is_said(make_objective, make_data):
    watch = Scripted("effective_rank", [20.0, 38.0, 6.0, 1.1, 1.0], fallen="a point")
    model, kept = trained(make_objective, make_data, watch, labels=False)
    assert same(model, watch.states[1])
    assert kept.step == 1
    assert "of effective rank 38.0: the end has fallen to a point" in kept.why


def test_whoever_names_a_metric_gets_the_best_of_it(make_objective, make_data):
    watch = Scripted("probe_accuracy", [0.1, 0.5, 0.9, 0.6, 0.5])
    model, kept = trained(make_objective, make_data, watch, labels=True, metric="probe_accuracy")
    assert same(model, watch.states[2])
    assert "probe accuracy" in kept.why


@torch.no_grad()
def test_the_best_share_of_the_way_to_the_best_end_is_found():
    """Weights whose only good place lies three quarters of the way to the second end."""
    backbone = Backbone("test_resnet", size=32)
    start = {k: v.clone() for k, v in backbone.net.state_dict().items()}
    floats = {k for k, v in start.items() if v.is_floating_point()}
    ends = {step: {k: v + step if k in floats else v for k, v in start.items()} for step in (10, 20)}
    name = next(k for k in start if k in floats)

    def score(b: Backbone) -> float:
        return -abs(float((b.net.state_dict()[name] - start[name]).mean()) - 15)

    assert average.settle(backbone, start, ends, score) == (20, 0.75)
    assert torch.allclose(backbone.net.state_dict()[name], start[name] + 15)
    assert average.settle(backbone, start, ends, None) == (10, 0.5)


class Killed(BaseException):
    """Stands for a signal 9."""


@pytest.fixture(scope="module")
def labelled(pixels, labels) -> Labelled:
    classes = tuple(sorted({"stripes", "blob", "checks"}))
    return Labelled(scan(Table.of(pixels, labels.tolist(), classes=classes, source="the kinds")).table, pixels)


def run(pixels: list[np.ndarray], labelled: Labelled, out: Path, **words: Any) -> tuple[Pretrained, str]:
    heard = io.StringIO()
    log = words.pop("log", [])
    words = {"backbone": "test_resnet", "weights": "none"} | words
    recipe = Pretrain(
        data=pixels, size=32, batch=8, steps=6, eval_every=2, save_every=2,
        log_every=1, precision="fp32", cache="ram", out=str(out), optim=Optim(lr=1e-3), **words,
    )  # fmt: skip
    return pretrain(recipe, console=Console(heard), log=log, labelled=labelled), heard.getvalue()


def dying(step: int) -> list[Any]:
    def die(now: int, metrics: dict[str, float]) -> None:
        if now == step and "loss" in metrics:
            raise Killed

    return [die]


CLOCKS = {"seconds", "seconds_left", "images_per_second"}


def rows(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_metrics(run / "metrics.jsonl")]


@pytest.fixture(scope="module")
def straight(pixels, labelled, tmp_path_factory) -> tuple[Pretrained, str]:
    """A run that nobody interrupted, and what it said."""
    return run(pixels, labelled, tmp_path_factory.mktemp("runs") / "straight")


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_killed_run_goes_on_without_measuring_the_rows_again_and_keeps_the_same_weights(
    pixels, labelled, straight, tmp_path, step
):
    whole, said = straight
    assert said.count("without this run") == 1
    assert "step 0:" in said
    with pytest.raises(Killed):
        run(pixels, labelled, tmp_path / "broken", log=dying(step))
    before = (tmp_path / "broken" / "worth.json").stat().st_mtime_ns
    broken, again = run(pixels, labelled, tmp_path / "broken")
    assert "without this run" not in again
    assert (tmp_path / "broken" / "worth.json").stat().st_mtime_ns == before
    assert rows(broken.out) == rows(whole.out)
    ours, theirs = (json.loads((r.out / "run.json").read_text()) for r in (broken, whole))
    assert (ours["kept"], ours["worth"]) == (theirs["kept"], theirs["worth"])
    ours, theirs = (load_file(r.out / "model.safetensors") for r in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_half_of_the_labels_chooses_the_other_half_judges_and_the_report_shows_the_table(straight, labelled):
    done, said = straight
    info = json.loads((done.out / "run.json").read_text())
    assert list(info["worth"]["rows"]) == ["random", "pretrained"]
    first = next(row for row in rows(done.out) if "probe_accuracy" in row)
    random, trained = info["worth"]["rows"].values()
    torch.manual_seed(0)
    start = backbones.load("test_resnet", "none", size=32)
    judging, choosing = (half.worth(start, 32).metrics() for half in labelled.halves(0))
    for key in ("knn_accuracy", "probe_accuracy", "probe_log_loss"):
        assert random[key] == pytest.approx(judging[key])
        assert first[key] == pytest.approx(choosing[key])
    one, other = ({record.digest for record in half.table} for half in labelled.halves(0))
    assert not one & other and len(one | other) == 24
    assert all(trained[key] == done.metrics[key] for key in ("knn_accuracy", "probe_accuracy", "probe_log_loss"))
    assert info["worth"]["words"] in said and info["kept"]["why"] in said
    html = (done.out / "report.html").read_text()
    for words in ("Is it worth it?", "random initialisation", "grad norm", "kNN and linear probe", "cosine"):
        assert words in html


def test_rows_measured_on_other_labels_are_measured_again(pixels, labelled, tmp_path):
    recipe, start, said = Pretrain(size=32, out=str(tmp_path)), Backbone("test_resnet", size=32), list[str]()
    baselines.measure(recipe, start, labelled, said.append)
    baselines.measure(recipe, start, labelled, said.append)
    assert len(said) == 1
    others = Labelled(labelled.table.take(range(20)), labelled.pixels[:20])
    assert len(baselines.measure(recipe, start, others, said.append)["random"].probe) == 20
    assert len(said) == 2


def test_a_start_from_a_run_is_a_row_of_its_own_beside_a_random_one(pixels, labelled, straight, tmp_path):
    first, _ = straight
    start = backbones.load(str(first.out), size=32)
    found = baselines._contestants(Pretrain(size=32), start)
    assert {name: b.loaded.origin for name, b in found.items()} == {
        "random": "random initialisation",
        "starting": f"run {first.out}",
    }
    assert found["starting"] is start
    second, said = run(pixels, labelled, tmp_path / "second", backbone=str(first.out), weights="auto")
    info = json.loads((second.out / "run.json").read_text())
    averaged = "averaged" in info["worth"]["rows"]
    assert list(info["worth"]["rows"])[:3] == ["random", "starting", "pretrained"]
    assert info["worth"]["rows"]["starting"]["probe_log_loss"] == pytest.approx(first.metrics["probe_log_loss"])
    assert f"tensors from run {first.out}" in said
    way = f"averaged: {second.share:.0%} of the way from the start"
    assert (way if averaged else "not averaged with the start: the probe is best without") in said
