"""A fine-tuning run: split, the floor of frozen features, training, a decision, and a test that none of it saw."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from visionft import parallel, preprocessing, runs
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, prepare
from visionft.evaluation.bootstrap import mean_of
from visionft.evaluation.probe import Probe
from visionft.log import Console, Laps, Sink
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.retention import forgotten, remedies
from visionft.retention.retained import retained

from .classify import Classify
from .complete import balanced, complete, idle, refitting, repeated
from .floor import Floor, Held, measure_floor
from .learn import Learned, attach, begin, build, learn, members, probed, solved, start_of
from .measure import Finetuned, asked, judge, line, measure
from .parts import Parts
from .seal import seal


def finetune(
    recipe: Finetune,
    *,
    console: Console | None = None,
    log: Sequence[Sink] = (),
    prepared: Prepared | None = None,
    low: Floor | None = None,
) -> Finetuned:
    """Run a recipe. `prepared` saves reading images that are decoded already, `low` a floor that is measured already.

    Raises ConfigError, DataError or WeightsError before any training; an interrupted run goes on where it was.
    """
    parallel.start()
    console, laps = console or Console(quiet=parallel.rank() > 0), Laps()
    recipe = complete(recipe)
    ready = prepared or prepare(recipe, console, labelled=True)
    parts = dataclasses.replace(Parts.deal(ready, recipe), retained=retained(recipe, console))
    laps.end("reading")
    start = start_of(recipe)
    remedies.suits(recipe, start)
    model, _ = build(recipe, parts, start)
    attach(recipe, copy.deepcopy(model))  # what does not fit must be said before anything is written
    folds = parts.folds(recipe) if recipe.folds > 1 else []
    open_run(recipe, parts, start, parts.fingerprint, console)

    if low is None:
        low = measure_floor(start, parts, recipe.size, console)
        for name, p in low.test.items():
            console.say(f"  floor, {name} on frozen features: {line(judge(p, parts.test))}")
    before = forgotten.before(model, parts.retained, recipe.size, low.train.weight, low.train.bias)
    laps.end("floor")
    if recipe.tune == "probe":  # a probe is solved, not trained
        if unused := idle(recipe):
            console.say(f"a probe is solved, not trained: {', '.join(unused)} played no part")
        model.start_from(low.known.weight, low.known.bias)
        own = model.answered(low.held.p) if isinstance(model, Classify) else low.held.p
        learned, held = [solved(model)], dataclasses.replace(low.held, p=own)
    else:
        learned = _learn(recipe, parts, folds, start, low, console, log)
        held = Held.of(asked(recipe, parts, learned).probabilities(parts.val.pixels), parts)
        if recipe.tune != "full" and (loss := _proven_loss(low.validation["probe"], held, evenly=balanced(recipe))):
            console.say(f"training made it worse, {loss} of the validation images told right: the start answers")
            model.start_from(low.train.weight, low.train.bias)
            learned = [solved(model, learned[0])]
            held = Held.of(asked(recipe, parts, learned).probabilities(parts.val.pixels), parts)
    if recipe.refit:
        console.say("once more, with the validation images")
        learned = [_refit(recipe, parts, learned[0], start, low.known, console, log)]
        held = dataclasses.replace(held, own=False)
    laps.end("training")
    done = measure(recipe, parts, learned, held, low, console)
    laps.end("decision and test")
    done.phases = laps.seconds
    seal(done, console, before=before)
    return done


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe, console = complete(recipe), console or Console()
    ready = prepare(recipe, console, labelled=True, dry=True)
    parts = dataclasses.replace(Parts.deal(ready, recipe), retained=retained(recipe, console, dry=True))
    first = parts.folds(recipe)[0] if recipe.folds > 1 else parts
    begun = begin(recipe, first, start_of(recipe), None)
    return plan(begun.learner, begun.images, recipe, **repeated(recipe))


def open_run(recipe: Finetune, parts: Parts, start: Backbone, images: str, console: Console) -> None:
    """Open the run folder, and say who sees how many images and what the network begins with; `images`: their hash."""
    runs.begin(Path(recipe.out), recipe, images)
    console.say(f"{len(parts.train.table)} images to train, {len(parts.val.table)} to choose by, "
                f"{len(parts.test.table)} to test. Start: {start.loaded}")  # fmt: skip
    if doubt := preprocessing.check(start, parts.ready.pixels, recipe.size):
        console.say(doubt)


def _learn(
    recipe: Finetune, parts: Parts, folds: Sequence[Parts], start: Backbone, low: Floor, console: Console,
    log: Sequence[Sink],
) -> list[Learned]:  # fmt: skip
    """The networks of the run: one, or one a fold, each in a folder of its own."""
    out = Path(recipe.out)
    if not folds:
        return [learn(recipe, parts, start, low.train if recipe.tune != "full" else None, out, console, log)]
    return [
        learn(one.recipe, part, start, probed(recipe, part, start), one.out, console, log, name=one.name)
        for part, one in zip(folds, members(recipe, len(folds)), strict=True)
    ]


def _refit(
    recipe: Finetune, parts: Parts, first: Learned, start: Backbone, head: Probe, console: Console,
    log: Sequence[Sink],
) -> Learned:  # fmt: skip
    """Train on all that may be looked at, for as many passes as were best without the validation images."""
    best = first.fitted.best_step if first.fitted else 0
    began = head if recipe.tune != "full" else None
    if not best and began:  # no step was better than the start
        model, _ = build(recipe, parts, start)
        model.start_from(began.weight, began.bias)
        return solved(model, first)
    again = refitting(recipe, best, parts.more)
    out = Path(recipe.out) / "refit"
    return learn(again, parts.all_learned(), start, began, out, console, log, choose=False, name="refit")


def _proven_loss(start: Tensor, held: Held, *, evenly: bool = False) -> str:
    """How much rarer validation images are told right than by the probe that training began with; "" if not proven.

    With `evenly` every class counts alike, whatever its share: that is what balancing is for.
    """
    now, then = ((p.argmax(1) == held.labels).double() for p in (held.p, start))
    counts = held.labels.bincount()
    weight = len(held.labels) / (counts > 0).sum() / counts[held.labels] if evenly else 1.0
    change, low, high = mean_of((now - then) * weight)
    return f"{100 * change:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})" if high < 0 else ""
