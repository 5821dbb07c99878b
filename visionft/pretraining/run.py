"""A pretraining run, from a folder of unlabeled photos to a backbone that plain timm can load."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft import backbone as backbones
from visionft import chapters, checkpoint, config, objective, parallel, preprocessing, runs, tuning
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, decoded, override, prepare
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.data.sources import read
from visionft.data.views import Views
from visionft.errors import ConfigError
from visionft.evaluation import representation
from visionft.evaluation.probe import fit_probe
from visionft.evaluation.worth import Labelled
from visionft.log import Console, Sink, clock, console_sink, read_metrics
from visionft.objective import Objective, View
from visionft.plan import plan
from visionft.recipe import Pretrain
from visionft.train import Metrics, fit

from . import average
from .watch import IMAGES, Watch, interval

EPOCHS = 100


@dataclass
class Pretrained:
    """A finished pretraining run."""

    out: Path
    backbone: Backbone
    metrics: Metrics
    verdict: str
    share: float | None = None  # of the way from start to end at which the weights were left
    start: Metrics = field(default_factory=dict)
    end: dict[str, Tensor] | None = None  # the weights before averaging, when this process trained them


def pretrain(
    recipe: Pretrain,
    *,
    console: Console | None = None,
    log: Sequence[Sink] = (),
    prepared: Prepared | None = None,
    labelled: Labelled | None = None,
) -> Pretrained:
    """Run a recipe. `prepared` and `labelled` save reading images (and the probe's) that are decoded already.

    Raises ConfigError, DataError or WeightsError before any training; an interrupted run goes on where it was.
    """
    parallel.start()
    console = console or Console(quiet=parallel.rank() > 0)
    recipe = _complete(recipe)
    objective.find(recipe.objective)  # a wrong key must not wait for the images
    ready = prepared or prepare(recipe, console, labelled=False)
    model, training, held = build(recipe, ready)
    recipe = _watched(recipe, model, held)
    out, began = Path(recipe.out), time.perf_counter()
    runs.begin(out, recipe, runs.fingerprint([r.digest for r in ready.table]))
    console.say(f"{type(model).__name__} on {len(training)} images, start: {model.backbone.loaded}")
    if doubt := preprocessing.check(model.backbone, ready.pixels, recipe.size):
        console.say(doubt)

    labelled = labelled or _labelled(recipe, console)
    worth = (lambda b: labelled.worth(b, recipe.size)) if labelled else None
    sink = runs.sinks(out, recipe, console_sink(console, "pretraining"), *log)
    seen = [row for row in read_metrics(out / "metrics.jsonl") if "effective_rank" in row]
    watch = Watch(held, worth, seen)
    before = {k: v.clone() for k, v in model.backbone.net.state_dict().items()}
    start = seen[0] if seen else watch(model.eval())
    if not seen:
        sink(0, start)
    fitted = fit(model, training, recipe, out=out, evaluate=watch, log=sink)
    console.say(
        f"{fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}. {fitted.stopped or watch.verdict}"
    )

    share, end = None, {k: v.clone() for k, v in model.backbone.net.state_dict().items()}
    if recipe.average and model.backbone.loaded.loaded:
        share, _ = average.settle(model.backbone, before, _score(labelled, recipe.size) if labelled else None)
        chosen = "chosen by the probe" if labelled else "without labels to choose by"
        console.say(f"weights left {share:.0%} of the way from start to end ({chosen})")
    features, projected = watch.embed(model)
    watch.verdict = representation.verdict(watch.history, projected[0].shape[1], len(held))[0]
    metrics = representation.describe(*features) | (worth(model.backbone) if worth else {})
    if parallel.rank() == 0:
        chapters.pretraining_report(out, ready.scan, fitted.stopped or watch.verdict, start, metrics)
        checkpoint.finish(out, model, _info(recipe, model, ready, metrics, watch.verdict, share, fitted, began))
    return Pretrained(out, model.backbone, metrics, fitted.stopped or watch.verdict, share, start, end)


def rehearse(recipe: Pretrain, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe = _complete(recipe)
    objective.find(recipe.objective)
    ready = prepare(recipe, console or Console(), labelled=False, dry=True)
    model, training, held = build(recipe, ready)
    return plan(model, training, _watched(recipe, model, held))


def build(recipe: Pretrain, ready: Prepared) -> tuple[Objective, Views, Views]:
    """The objective, the images it trains on, and those held out to watch it (at most a tenth)."""
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.objective)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    if "images" in config.options(cls):
        options = {"images": len(ready.table), **options}
    model = cls(backbone, **options)
    order = np.random.default_rng((recipe.seed, 0x4E1D)).permutation(len(ready.table))
    aside = min(IMAGES, max(2, len(order) // 10))
    if len(order) - aside < 2:
        raise ConfigError(f"{ready.table.source} has {len(order)} usable images; pretraining needs at least 4")
    views = override(dict(model.sees), recipe.views)
    training = _views(ready, order[aside:], views, backbone, recipe)
    pair = {"views": View(next(iter(views.values())).policy, count=2)}
    return model, training, _views(ready, order[:aside], pair, backbone, recipe)


def _views(ready: Prepared, indices: np.ndarray, views: dict[str, View], backbone: Backbone, recipe: Pretrain) -> Views:
    _, pixels = ready.part(indices)
    sides = {key: backbone.side(recipe.size * view.share) for key, view in views.items()}
    return Views(pixels, views, sides, channels=recipe.channels, seed=recipe.seed)


def _complete(recipe: Pretrain) -> Pretrain:
    tuning.check(recipe.tune)
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)


def _watched(recipe: Pretrain, model: Objective, held: Views) -> Pretrain:
    every = recipe.eval_every or interval(recipe.batch, _pixels(model), len(held))
    return dataclasses.replace(recipe, eval_every=every)


def _pixels(model: Objective) -> float:
    """Full-size images that one sample amounts to."""
    return sum((view.count or 1) * view.share**2 for view in model.sees.values())


def _labelled(recipe: Pretrain, console: Console) -> Labelled | None:
    if recipe.probe is None:
        return None
    table: Table = scan(
        read(recipe.probe, labelled=True), bad="error", channels=recipe.channels, white=recipe.white
    ).table
    return Labelled(table, decoded(recipe, table, console))


def _score(labelled: Labelled, size: int) -> Callable[[Backbone], float]:
    def score(backbone: Backbone) -> float:
        z = labelled.features(backbone, size, store=False)
        return -min(fit_probe(z, labelled.labels, classes=len(labelled.table.classes)).cv.values())

    return score


def _info(recipe: Pretrain, model: Objective, ready: Prepared, metrics: Metrics, verdict: str, share: float | None,
          fitted: Any, began: float) -> dict[str, Any]:  # fmt: skip
    return {
        "verb": "pretrain",
        "backbone": model.backbone.spec(),
        "start": str(model.backbone.loaded),
        "objective": config.plain(recipe)["objective"],
        "share": share,
        "metrics": metrics,
        "verdict": verdict,
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "precision": fitted.precision,
        "seconds": time.perf_counter() - began,
        "data": {"source": ready.table.source, "images": len(ready.table), "bad": ready.scan.bad,
                 "fingerprint": runs.fingerprint([r.digest for r in ready.table])},
        "versions": runs.versions(),
    }  # fmt: skip
