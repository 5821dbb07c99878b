"""A pretraining run, from a folder of unlabeled photos to a backbone that plain timm can load."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
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
from visionft.evaluation import representation
from visionft.evaluation.worth import Labelled
from visionft.log import Console, Sink, clock, console_sink, read_metrics
from visionft.objective import Objective, View
from visionft.plan import SAMPLED, plan
from visionft.recipe import Pretrain
from visionft.train import Metrics, fit

from . import baselines, border, pictures
from .choose import remembering
from .outcome import Outcome, settle
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
    model, training, held = build(recipe, ready, console)
    labelled = labelled or _labelled(recipe, console)
    recipe = _watched(recipe, model, held)
    out, began = Path(recipe.out), time.perf_counter()
    runs.begin(out, recipe, runs.fingerprint([r.digest for r in ready.table]))
    about = f"{type(model).__name__} on {len(training)} images. Start: {model.backbone.loaded}."
    gone = checkpoint.last_step(out)
    console.say(f"{about} Goes on from step {gone}." if gone else about)
    doubts = preprocessing.check(model.backbone, ready.pixels, recipe.size), border.enlarged(ready, model.backbone)
    for doubt in filter(None, doubts):
        console.say(doubt)

    worth = (lambda b: labelled.worth(b, recipe.size).metrics()) if labelled else None
    bases = baselines.measure(recipe, model.backbone, labelled, console.say) if labelled and not parallel.rank() else {}
    sink = runs.sinks(out, recipe, console_sink(console, "pretraining"), *log)
    watch = Watch(held, worth, [row for row in read_metrics(out / "metrics.jsonl") if "effective_rank" in row])
    before = {k: v.clone() for k, v in model.backbone.net.state_dict().items()}
    fitted = fit(model, training, remembering(recipe, labelled is not None), out=out, evaluate=watch, log=sink)
    console.say(
        f"{fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}. {fitted.stopped or watch.verdict}"
    )

    sheets: list[pictures.Sheet] = []
    show = pictures.plain(held.pixels, recipe.size, recipe.channels)
    look = (lambda m: sheets.extend(pictures.own(m, show))) if not parallel.rank() else (lambda m: None)
    done = settle(model, fitted, recipe, watch, before, labelled, bases, look)
    for line in done.lines:
        console.say(line)
    features, projected = watch.embed(model)
    watch.verdict = representation.verdict(watch.history, projected[0].shape[1], len(held))[0]
    said = fitted.stopped or watch.verdict
    metrics = representation.describe(*features)
    if done.rows:
        metrics |= next(reversed(done.rows.values())).metrics()
    start = watch.seen[0] if watch.seen else {}
    if parallel.rank() == 0:
        if done.words:
            console.say(done.words)
        bank = [*held.pixels, *islice(training.pixels, max(0, pictures.BANK - len(held)))]
        plain = pictures.plain(bank, recipe.size, recipe.channels)
        more, places = pictures.learnt(model.backbone, plain, labelled, recipe.size)
        chapters.pretraining_report(
            out, ready.scan, said, start, metrics, about="\n\n".join([about, *map(_sentence, done.lines)]),
            rows=baselines.table(done.rows), words=done.words, sheets=[*sheets, *more], places=places,
        )  # fmt: skip
        checkpoint.finish(out, model, _info(recipe, model, ready, metrics, watch.verdict, done, fitted, began))
    return Pretrained(out, model.backbone, metrics, said, done.share, start, done.end)


def rehearse(recipe: Pretrain, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe = _complete(recipe)
    objective.find(recipe.objective)
    console = console or Console()
    ready = prepare(recipe, console, labelled=False, dry=True)
    model, training, held = build(recipe, ready, console, dry=True)
    return plan(model, training, _watched(recipe, model, held))


def build(
    recipe: Pretrain, ready: Prepared, console: Console | None = None, *, dry: bool = False
) -> tuple[Objective, Views, Views]:
    """The objective, the images it trains on, and those held out to watch it (at most a tenth)."""
    console = console or Console(quiet=True)
    border.enough(ready)
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.objective)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    if "images" in config.options(cls):
        options = {"images": len(ready.table), **options}
    model = cls(backbone, **options)
    order = np.random.default_rng((recipe.seed, 0x4E1D)).permutation(len(ready.table))
    aside = min(IMAGES, max(2, len(order) // 10))
    border.filled(recipe.batch, recipe.accumulate * parallel.world(), len(order) - aside, aside)
    if model.note:
        console.say(model.note)
    views = override(dict(model.sees), recipe.views)
    columns = _columns(model, ready, order[aside:], recipe.size, console, dry)
    training = _views(ready, order[aside:], views, backbone, recipe, columns)
    pair = {"views": View(next(iter(views.values())).policy, count=2)}
    return model, training, _views(ready, order[:aside], pair, backbone, recipe)


def _views(
    ready: Prepared, indices: np.ndarray, views: dict[str, View], backbone: Backbone, recipe: Pretrain,
    columns: dict[str, Tensor] | None = None,
) -> Views:  # fmt: skip
    _, pixels = ready.part(indices)
    sides = {key: backbone.side(recipe.size * view.share) for key, view in views.items()}
    return Views(pixels, views, sides, columns=columns, channels=recipe.channels, seed=recipe.seed)


def _columns(
    model: Objective, ready: Prepared, indices: np.ndarray, size: int, console: Console, dry: bool
) -> dict[str, Tensor]:
    """What the objective wants to know of its images; a dry run asks for as few as it will look at, and keeps none."""
    asked = indices[:SAMPLED] if dry else indices
    table, pixels = ready.part(asked)
    made = model.columns(pixels, table, size, store=not dry, progress=console.progress("what the objective asks for"))
    return {name: rows[torch.arange(len(indices)) % len(asked)] for name, rows in made.items()}


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
    labelled = Labelled(table, decoded(recipe, table, console))
    border.judged(labelled)
    return labelled


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _info(recipe: Pretrain, model: Objective, ready: Prepared, metrics: Metrics, verdict: str, done: Outcome,
          fitted: Any, began: float) -> dict[str, Any]:  # fmt: skip
    return {
        "verb": "pretrain",
        "backbone": model.backbone.spec(),
        "start": str(model.backbone.loaded),
        "objective": config.plain(recipe)["objective"],
        "kept": dataclasses.asdict(done.kept),
        "share": done.share,
        "worth": {"rows": baselines.table(done.rows), "words": done.words},
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
