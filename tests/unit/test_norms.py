"""Batch norms that are measured anew: torch's own update over the same batches, for weights that were averaged, too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.swa_utils import update_bn

from visionft import averaging, norms
from visionft.feed import Feed
from visionft.precision import inference
from visionft.recipe import Optim, Recipe
from visionft.train import fit


def recipe(**changes) -> Recipe:
    told = {"steps": 4, "batch": 8, "precision": "fp32", "batchnorm": "recalibrate", "optim": Optim(lr=0.01)}
    return Recipe(**{**told, **changes})


def statistics(model) -> dict[str, torch.Tensor]:
    return {name: b.clone() for name, b in model.named_buffers() if "running" in name}


def feed_of(objective, make_data, told: Recipe) -> Feed:
    return Feed(make_data(objective), told, torch.device("cpu"))


@pytest.mark.parametrize("name", ["classify", "simclr"])
def test_statistics_are_those_that_torch_finds_for_the_same_batches(make_objective, make_data, name):
    objective, told = make_objective(name, "test_resnet"), recipe()
    feed, theirs = feed_of(objective, make_data, told), copy.deepcopy(objective.backbone)
    key = next(iter(objective.sees))
    batches = [batch[key].flatten(0, -4) for batch in feed.opening(norms.MEASURED)]
    assert sum(map(len, batches)) == 24 * (2 if name == "simclr" else 1)  # all images, once
    with inference(torch.device("cpu")):
        update_bn(batches, theirs)
    norms.recalibration(objective, feed, told)()
    for found, wanted in zip(statistics(objective.backbone).values(), statistics(theirs).values(), strict=True):
        torch.testing.assert_close(found, wanted)
    assert not objective.backbone.training
    assert {norm.momentum for norm in norms.of(objective.backbone)} == {0.1}  # as it was


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_ends_with_the_statistics_of_the_weights_it_keeps(make_objective, make_data, ema):
    ends = {}
    for policy in ("recalibrate", "train"):
        objective, told = make_objective("classify", "test_resnet"), recipe(batchnorm=policy, ema=ema)
        fit(objective, make_data(objective), told)
        ends[policy] = statistics(objective.backbone)
        norms.recalibration(objective, feed_of(objective, make_data, recipe()), recipe())()
        again = statistics(objective.backbone)
        stays = all(torch.equal(ends[policy][name], value) for name, value in again.items())
        assert stays == (policy == "recalibrate")
    weights = {k: v for k, v in objective.state_dict().items() if "running" not in k}
    other = make_objective("classify", "test_resnet")
    fit(other, make_data(other), recipe(ema=ema))
    for name, value in weights.items():  # what is learnt does not depend on what is measured
        if "num_batches" not in name:
            assert torch.equal(value, other.state_dict()[name]), name


def test_evaluations_see_the_statistics_of_the_weights_they_judge(make_objective, make_data):
    objective, told, seen = make_objective("classify", "test_resnet"), recipe(eval_every=2), []
    fit(objective, make_data(objective), told, evaluate=lambda model: seen.append(statistics(model.backbone)) or {})
    assert len(seen) == 2
    for name, value in statistics(objective.backbone).items():
        assert torch.equal(seen[1][name], value)
        assert not torch.equal(seen[0][name], value)


@pytest.mark.parametrize("tune", ["probe", "last:1"])
def test_what_does_not_learn_is_not_measured_either(make_objective, make_data, tune):
    objective = make_objective("classify", "test_resnet")
    start = statistics(objective.backbone)
    fit(objective, make_data(objective), recipe(tune=tune))
    learn = {name: norm.weight.requires_grad for name, norm in objective.backbone.named_modules()
             if isinstance(norm, torch.nn.BatchNorm2d)}  # fmt: skip
    for name, value in statistics(objective.backbone).items():
        assert torch.equal(value, start[name]) != learn[name.rpartition(".")[0]], name
    assert any(learn.values()) == (tune != "probe")
    assert not all(learn.values())


def test_averaged_weights_are_measured_before_they_are_scored(make_objective, make_data):
    objective, told = make_objective("classify", "test_resnet"), recipe()
    ready = norms.recalibration(objective, feed_of(objective, make_data, told), told)
    start = {k: v.clone() for k, v in objective.state_dict().items()}
    fit(objective, make_data(objective), told)
    seen = []

    def score() -> float:
        seen.append(statistics(objective.backbone))
        return float(len(seen))

    assert averaging.best_share(objective, start, score, ready=ready) == averaging.SHARES[-1]
    ready()
    for name, value in statistics(objective.backbone).items():
        assert torch.equal(value, seen[-1][name])
