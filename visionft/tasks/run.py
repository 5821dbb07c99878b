"""A fine-tuning run: split, the floor of frozen features, training, a decision, and a test that none of it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from visionft import config, objective, parallel, preprocessing, runs, tuning
from visionft.adapters.attach import check
from visionft.data.prepare import Prepared, prepare
from visionft.errors import ConfigError
from visionft.evaluation.probe import Probe
from visionft.log import Console, Laps, Sink
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.retention import forgotten, remedies
from visionft.retention.retained import retained

from .floor import Floor, Held, measure_floor
from .learn import Learned, attach, build, learn, probed
from .measure import Finetuned, asked, judge, line, measure
from .parts import Parts
from .seal import seal

EPOCHS = 10


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
    console, laps = console or Console(quiet=parallel.rank() > 0), Laps()
    recipe = complete(recipe)
    ready = prepared or prepare(recipe, console, labelled=True)
    parts = dataclasses.replace(Parts.deal(ready, recipe), retained=retained(recipe, console))
    laps.end("reading")
    model, _ = build(recipe, parts)
    remedies.suits(recipe, model.backbone)
    start, out = model.backbone, Path(recipe.out)
    if recipe.adapter != "none":
        attach(recipe, build(recipe, parts)[0])  # what does not fit must be said before anything is written
    folds = parts.folds(recipe) if recipe.folds > 1 else []
    runs.begin(out, recipe, parts.fingerprint)
    console.say(f"{len(parts.train.table)} images to train, {len(parts.val.table)} to choose by, "
                f"{len(parts.test.table)} to test. Start: {start.loaded}")  # fmt: skip
    if doubt := preprocessing.check(start, ready.pixels, recipe.size):
        console.say(doubt)

    low = measure_floor(start, parts, recipe.size, console)
    before = forgotten.before(model, parts.retained, recipe.size, low.train)
    laps.end("floor")
    for name, p in low.test.items():
        console.say(f"  floor, {name} on frozen features: {line(judge(p, parts.test))}")
    validation = dict(low.validation)
    if recipe.tune == "probe":  # a probe is solved, not trained
        model.start_from(low.known.weight, low.known.bias)
        learned, held = [Learned(model)], low.held
    else:
        learned = _learn(recipe, parts, folds, low, console, log)
        held = Held(asked(recipe, parts, learned).probabilities(parts.val.pixels), parts.val.labels)
        validation["finetuned"] = held.p
    if recipe.refit:
        console.say("once more, with the validation images")
        learned, held = (
            [_refit(recipe, parts, learned[0], low.known, console, log)],
            dataclasses.replace(held, own=False),
        )
    laps.end("training")
    done = measure(recipe, parts, learned, held, console, test=low.test, validation=validation)
    laps.end("decision and test")
    done.phases, done.seconds = laps.seconds, sum(laps.seconds.values())
    seal(done, recipe, parts, console, before=before)
    return done


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe = complete(recipe)
    ready = prepare(recipe, console or Console(), labelled=True, dry=True)
    model, training = build(recipe, Parts.deal(ready, recipe))
    learner, images = remedies.kept(recipe, model, training, retained(recipe, console or Console(), dry=True))
    attach(recipe, model)
    return plan(learner, images, recipe)


def _learn(
    recipe: Finetune, parts: Parts, folds: Sequence[Parts], low: Floor, console: Console, log: Sequence[Sink]
) -> list[Learned]:
    """The networks of the run: one, or one a fold, each in a folder of its own."""
    out = Path(recipe.out)
    begins = recipe.tune != "full"
    if not folds:
        return [learn(recipe, parts, low.train if begins else None, out, console, log)]
    own = dataclasses.replace(recipe, minutes=recipe.minutes and recipe.minutes / len(folds))
    made = []
    for at, part in enumerate(folds):
        head = probed(recipe, part) if begins else None
        seeded = dataclasses.replace(own, seed=recipe.seed + at)
        name = f"network {at + 1} of {len(folds)}"
        made.append(learn(seeded, part, head, out / f"fold-{at}", console, log, name=name))
    return made


def _refit(
    recipe: Finetune, parts: Parts, first: Learned, head: Probe, console: Console, log: Sequence[Sink]
) -> Learned:
    """Train on all that may be looked at, for as many passes as were best without the validation images."""
    best = first.fitted.best_step if first.fitted else 0
    began = head if recipe.tune != "full" else None
    if not best and began:  # no step was better than the start
        model, _ = build(recipe, parts)
        model.start_from(began.weight, began.bias)
        return Learned(model, dataclasses.replace(first.fitted, steps=0) if first.fitted else None)
    steps = max(1, round(best * len(parts.known.table) / len(parts.train.table)))
    again = dataclasses.replace(recipe, steps=steps, epochs=None, minutes=None, patience=0, average=False)
    out = Path(recipe.out) / "refit"
    return learn(again, parts.all_learned(), began, out, console, log, choose=False, name="refit")


def complete(recipe: Finetune) -> Finetune:
    """The recipe with a budget. Raises ConfigError for a wrong key, which must not wait for the images."""
    objective.find(recipe.task)
    if recipe.target is not None or config.named(recipe.task, "task")[0] == "heads":
        raise ConfigError("this learns one label an image; columns (target=) are learnt by `visionft finetune`")
    tuning.check(recipe.tune)
    remedies.check(recipe)
    if recipe.adapter != "none":
        check(recipe.adapter)
    trained = {"adapter": recipe.adapter != "none", "folds": recipe.folds > 1, "refit": recipe.refit,
               "average": recipe.average}  # fmt: skip
    if recipe.tune == "probe" and any(trained.values()):
        key = next(name for name, asked in trained.items() if asked)
        raise ConfigError(f"tune=probe trains nothing that {key} could act on; leave tune out, or leave {key} out")
    _, options = config.named(recipe.task, "task")
    if options.get("drop_path") and recipe.adapter != "none":
        raise ConfigError("task.drop_path acts on blocks whose own weights learn; beside an adapter none do")
    if recipe.folds > 1 and recipe.refit:
        raise ConfigError("folds and refit exclude each other: every training image is in most folds already")
    if recipe.refit and recipe.optim.schedule == "plateau":
        raise ConfigError("refit has no validation images whose plateau the rate could wait for; leave one of them out")
    if recipe.average and recipe.tune == "full":
        raise ConfigError("average needs a start that answers already; take tune=probe-then-full")
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)
