"""A pretraining run, from a folder of unlabeled photos to a backbone that plain timm can load."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from visionft import chapters, checkpoint, config, parallel, runs
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared
from visionft.evaluation import representation
from visionft.evaluation.worth import Labelled, Worth
from visionft.feed import Feed
from visionft.fitted import Fitted, Metrics
from visionft.log import Console, Sink, clock, console_sink, read_metrics
from visionft.norms import recalibration
from visionft.objective import Objective
from visionft.plan import plan
from visionft.recipe import Pretrain
from visionft.report import sentence
from visionft.train import fit

from . import baselines, pictures
from .choose import remembering
from .outcome import Outcome, settle
from .start import Setup, setup
from .watch import Watch


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
    run = setup(recipe, console, prepared=prepared, labelled=labelled)
    recipe, model, labelled, began = run.recipe, run.model, run.labelled, time.perf_counter()
    _begin(run, console)
    out, bases = Path(recipe.out), _bases(run, console)
    sink, watch = runs.sinks(out, recipe, console_sink(console, "pretraining"), *log), _watch(run)
    before = {k: v.clone() for k, v in model.backbone.net.state_dict().items()}

    fitted = fit(model, run.training, remembering(recipe, labelled is not None), out=out, evaluate=watch, log=sink)
    made = Pretrained(out, model.backbone, {}, "")
    if parallel.rank() == 0:  # it chooses, judges and writes; the others take over what it says and keeps
        with parallel.alone():
            made = _conclude(run, fitted, watch, before, bases, console, began)
    parallel.follow(model.backbone.state_dict())
    made.metrics, made.verdict, made.share, made.start = parallel.told(
        [made.metrics, made.verdict, made.share, made.start]
    )
    return made


def _conclude(
    run: Setup, fitted: Fitted, watch: Watch, before: Mapping[str, Tensor], bases: Mapping[str, Worth],
    console: Console, began: float,
) -> Pretrained:  # fmt: skip
    """Choose the weights to keep, say what they are worth, and seal the run."""
    recipe, model, out = run.recipe, run.model, Path(run.recipe.out)
    took = f"{fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}"
    console.say(f"{took}. {fitted.stopped or watch.verdict}")

    sheets: list[pictures.Sheet] = []
    ready = recalibration(model, Feed(run.training, recipe, model.backbone.mean.device), recipe)
    done = settle(
        model, fitted, recipe, watch, before, run.labelled, run.choosing, bases,
        lambda m: sheets.extend(_own(m, run)), ready,
    )  # fmt: skip
    for line in [*done.lines, *filter(None, [done.words])]:
        console.say(line)
    features, projected = watch.embed(model)
    watch.judge(model, projected[0].shape[1])
    metrics = representation.describe(*features) | done.worth()
    said, start = fitted.stopped or watch.verdict, watch.seen[0] if watch.seen else {}
    made = Pretrained(out, model.backbone, metrics, said, done.share, start, done.end)
    _report(run, made, done, sheets)
    checkpoint.finish(out, model, _info(run, made, done, fitted, watch.verdict, began))
    return made


def rehearse(recipe: Pretrain, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    run = setup(recipe, console or Console(), dry=True)
    return plan(run.model, run.training, run.recipe)


def _begin(run: Setup, console: Console) -> None:
    """Open the run folder and say what this is."""
    out = Path(run.recipe.out)
    runs.begin(out, run.recipe, run.ready.table.fingerprint)
    gone = checkpoint.last_step(out)
    console.say(f"{run.about} Goes on from step {gone}." if gone else run.about)
    for doubt in run.doubts():
        console.say(doubt)


def _watch(run: Setup) -> Watch:
    """Watch from where the metrics stand, which end at the last checkpoint once the sinks are open."""
    choosing, size = run.choosing, run.recipe.size
    worth = (lambda backbone: choosing.worth(backbone, size).metrics()) if choosing else None
    rows = read_metrics(Path(run.recipe.out) / "metrics.jsonl")
    return Watch(run.held, worth, [row for row in rows if "effective_rank" in row])


def _bases(run: Setup, console: Console) -> dict[str, Worth]:
    if run.labelled is None or parallel.rank():
        return {}
    return baselines.measure(run.recipe, run.model.backbone, run.labelled, console.say)


def _own(model: Objective, run: Setup) -> list[pictures.Sheet]:
    return pictures.own(model, pictures.plain(run.held.pixels, run.recipe.size, run.recipe.channels))


def _report(run: Setup, made: Pretrained, done: Outcome, sheets: list[pictures.Sheet]) -> None:
    recipe, held = run.recipe, run.held.pixels
    bank = [*held, *islice(run.training.pixels, max(0, pictures.BANK - len(held)))]
    plain = pictures.plain(bank, recipe.size, recipe.channels)
    more, places = pictures.learnt(made.backbone, plain, run.labelled, recipe.size)
    chapters.pretraining_report(
        made.out, run.ready.scan, made.start, made.metrics,
        about="\n\n".join([run.about, *map(sentence, [made.verdict, *done.lines])]),
        rows=baselines.table(done.rows), words=done.words, sheets=[*sheets, *more], places=places,
    )  # fmt: skip


def _info(run: Setup, made: Pretrained, done: Outcome, fitted: Fitted, verdict: str, began: float) -> dict[str, Any]:
    return {
        "verb": "pretrain",
        "backbone": made.backbone.spec(),
        "start": str(made.backbone.loaded),
        "objective": config.plain(run.recipe)["objective"],
        "kept": dataclasses.asdict(done.kept),
        "share": done.share,
        "worth": {"rows": baselines.table(done.rows), "words": done.words},
        "metrics": made.metrics,
        "verdict": verdict,
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "precision": fitted.precision,
        "seconds": time.perf_counter() - began,
        "data": run.ready.facts() | {"images": len(run.ready.table)},
        "versions": runs.versions(),
    }
