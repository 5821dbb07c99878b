"""A fine-tuning run: split, the floor that frozen features give, training, and a test that saw nothing of it."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft import backbones, chapters, checkpoint, config, objective, parallel, preprocessing, runs, tuning
from visionft.adapters import files as adapters
from visionft.adapters.attach import adapt, check, merge
from visionft.data.prepare import Prepared, prepare
from visionft.data.split import split
from visionft.data.views import Views
from visionft.errors import ConfigError, DataError
from visionft.evaluation.classification import summarise
from visionft.evaluation.probe import Probe
from visionft.evaluation.worth import Labelled, floor
from visionft.log import Console, Sink, clock, console_sink
from visionft.objective import Objective
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.train import Fitted, Metrics, fit

from .predictor import Predictor

EPOCHS = 10


@dataclass
class Finetuned:
    """A finished fine-tuning run, with what the report shows."""

    out: Path
    predictor: Predictor
    metrics: dict[str, Metrics]  # "probe", "knn" (the floor) and "finetuned", on the test images
    probabilities: dict[str, Tensor]  # of the test images, N C each
    test: Labelled
    fitted: Fitted | None = None


@dataclass(frozen=True)
class _Parts:
    train: Labelled
    val: Labelled
    test: Labelled


def finetune(
    recipe: Finetune,
    *,
    console: Console | None = None,
    log: Sequence[Sink] = (),
    prepared: Prepared | None = None,
) -> Finetuned:
    """Run a recipe. `prepared` saves reading images that are decoded already.

    Raises ConfigError, DataError or WeightsError before any training; an interrupted run goes on where it was.
    """
    parallel.start()
    console = console or Console(quiet=parallel.rank() > 0)
    recipe = _complete(recipe)
    objective.find(recipe.task)  # a wrong key must not wait for the images
    ready = prepared or prepare(recipe, console, labelled=True)
    parts = _split(recipe, ready)
    model, training = build(recipe, ready, parts)
    _adapt(recipe, copy.deepcopy(model))  # what does not fit must be said before anything is written
    out, began = Path(recipe.out), time.perf_counter()
    runs.begin(out, recipe, ready.table.fingerprint)
    console.say(f"{len(parts.train.table)} images to train, {len(parts.val.table)} to choose by, "
                f"{len(parts.test.table)} to test. Start: {model.backbone.loaded}")  # fmt: skip

    if doubt := preprocessing.check(model.backbone, ready.pixels, recipe.size):
        console.say(doubt)
    probe, answers, probe_train = _floor(recipe, model, parts, console)
    metrics = {name: _judge(p, parts.test) for name, p in answers.items()}
    for name, m in metrics.items():
        console.say(f"  floor, {name} on frozen features: {line(m)}")
    if recipe.tune != "full":
        start = probe if recipe.tune == "probe" else probe_train
        model.start_from(start.weight, start.bias)
    _adapt(recipe, model)
    fitted = None
    predictor = Predictor(model, parts.train.table.classes, _images(recipe))
    if recipe.tune != "probe":  # a probe is solved, not trained
        sink = runs.sinks(out, recipe, console_sink(console, "fine-tuning"), *log)
        evaluate = _Evaluate(predictor, parts.val)
        fitted = fit(model, training, recipe, out=out, evaluate=evaluate, log=sink)
        how = fitted.stopped or "ran to its end"
        console.say(f"{fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}: {how}")
    answers["finetuned"] = predictor.probabilities(parts.test.pixels)
    metrics["finetuned"] = _judge(answers["finetuned"], parts.test)
    console.say(f"  test, {recipe.tune}: {line(metrics['finetuned'])}")
    if model.backbone.adapter is not None:
        _keep_adapter(out, model, console)
    if parallel.rank() == 0:
        chapters.finetuning_report(out, ready.scan, metrics, answers, parts.test)
        checkpoint.finish(out, model, _info(recipe, model, ready, parts, metrics, fitted, began))
    return Finetuned(out, predictor, metrics, answers, parts.test, fitted)


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe = _complete(recipe)
    objective.find(recipe.task)
    ready = prepare(recipe, console or Console(), labelled=True, dry=True)
    model, training = build(recipe, ready, _split(recipe, ready))
    _adapt(recipe, model)
    return plan(model, training, recipe)


def build(recipe: Finetune, ready: Prepared, parts: _Parts) -> tuple[Any, Views]:
    """The task on its backbone, and the images it trains on."""
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.task)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    model: Objective = cls(backbone, **{**_filled(cls, parts), **options})
    views = {"image": dataclasses.replace(model.sees["image"], policy=recipe.policy)}
    training = Views(
        parts.train.pixels,
        views,
        {"image": recipe.size},
        labels=parts.train.table.labels,
        channels=recipe.channels,
        seed=recipe.seed,
    )
    return model, training


def _adapt(recipe: Finetune, model: Any) -> None:
    """Put the recipe's adapter to work; it begins as the seed says, whatever was drawn before."""
    if recipe.adapter != "none":
        torch.manual_seed(recipe.seed)
        adapt(model.backbone, recipe.adapter)


def _keep_adapter(out: Path, model: Any, console: Console) -> None:
    """Write the adapter as a folder of its own, and leave a plain network where its weights can say the same."""
    backbone = model.backbone
    if parallel.rank() == 0:
        adapters.save(out / "adapter", backbone.net, backbone.adapter, model.head)
    if backbone.adapter.merges:
        merge(backbone)
        console.say(f"the adapter is merged into plain weights, and kept apart in {out / 'adapter'}")


def _filled(task: type[Objective], parts: _Parts) -> dict[str, Any]:
    """What a task is told of the training images, as far as it asks."""
    table = parts.train.table
    counts = np.bincount(table.labels, minlength=len(table.classes)).tolist()
    return {name: value for name, value in (("classes", len(counts)), ("counts", counts))
            if name in config.options(task)}  # fmt: skip


class _Evaluate:
    """Validation, as the loop calls it."""

    def __init__(self, predictor: Predictor, val: Labelled) -> None:
        self.predictor, self.val = predictor, val

    def __call__(self, model: Objective) -> Metrics:
        found = summarise(
            self.predictor.probabilities(self.val.pixels, quick=True),
            self.val.labels,
            classes=self.val.table.classes,
            resamples=1,
        )
        return {k: v for k, v in found.items() if not k.endswith(("_low", "_high")) and "/" not in k}


def _split(recipe: Finetune, ready: Prepared) -> _Parts:
    shares = {"val": recipe.val * (1 - recipe.test), "test": recipe.test}
    tables = split(ready.table, shares, seed=recipe.seed, by_group=recipe.by_group)
    place = {id(record): i for i, record in enumerate(ready.table)}
    parts = {name: Labelled(*ready.part(place[id(r)] for r in table)) for name, table in tables.items()}
    if len(set(parts["train"].table.labels.tolist())) < 2:
        raise DataError(f"{ready.table.source} leaves fewer than two classes to train on")
    return _Parts(parts["train"], parts["val"], parts["test"])


def _floor(
    recipe: Finetune, model: Objective, parts: _Parts, console: Console
) -> tuple[Probe, dict[str, Tensor], Probe]:
    """What frozen features answer, fitted on all labels that fine-tuning may see; and a probe of the training part."""
    z = [
        part.features(model.backbone, recipe.size, progress=console.progress(f"features, {name}"))
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    ]
    classes = len(parts.train.table.classes)
    both, labels = torch.cat(z[:2]), torch.cat([parts.train.labels, parts.val.labels])
    probe, answers = floor(both, labels, z[2], classes)
    return probe, answers, floor(z[0], parts.train.labels, z[1], classes)[0]


def _judge(probabilities: Tensor, test: Labelled) -> Metrics:
    groups = test.table.groups if test.table.grouped else None
    return summarise(probabilities, test.labels, classes=test.table.classes, groups=groups)


def _complete(recipe: Finetune) -> Finetune:
    tuning.check(recipe.tune)
    if recipe.adapter != "none":
        check(recipe.adapter)
        if recipe.tune == "probe":
            raise ConfigError("tune=probe trains no adapter; leave tune out, or leave adapter out")
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)


def _images(recipe: Finetune) -> dict[str, int]:
    flips = {"flips": 1} if recipe.flips else {}
    return {"size": recipe.size, "channels": recipe.channels, "white": recipe.white, **flips}


def line(m: Metrics) -> str:
    """Accuracy with its interval, and AUROC, in words."""
    auroc = f", AUROC {m['auroc']:.3f}" if "auroc" in m else ""
    return f"accuracy {m['accuracy']:.3f} ({m['accuracy_low']:.3f} to {m['accuracy_high']:.3f}){auroc}"


def _info(
    recipe: Finetune, model: Objective, ready: Prepared, parts: _Parts, metrics: dict[str, Metrics],
    fitted: Fitted | None, began: float,
) -> dict[str, Any]:  # fmt: skip
    name, options = config.named(config.plain(recipe)["task"], "task")
    filled = _filled(type(model), parts)
    sizes = {name: len(part.table) for name, part in vars(parts).items()}
    return {
        "verb": "finetune",
        "task": {"name": name, **filled, **options},
        "classes": list(ready.table.classes),
        "images": _images(recipe),
        "backbone": model.backbone.spec(),
        "start": str(model.backbone.loaded),
        "metrics": metrics,
        "fitted": fitted.facts() if fitted else None,
        "seconds": time.perf_counter() - began,
        "data": ready.facts() | sizes,
        "versions": runs.versions(),
    }  # fmt: skip
