"""Learn columns of a table: one backbone and a head a column, from probes on frozen features to measured answers."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from visionft import config, objective, parallel
from visionft.arrays import Floats
from visionft.backbone import Backbone
from visionft.data.asked import columns
from visionft.data.targets import Target
from visionft.data.views import Views
from visionft.errors import ConfigError
from visionft.fitted import Fitted, Metrics
from visionft.log import Console, Sink
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.retention import forgotten, remedies
from visionft.tasks.complete import budgeted, refitting, repeated
from visionft.tasks.heads import Heads
from visionft.tasks.learn import (
    Begun,
    Learned,
    attach,
    finished,
    images_for,
    images_of,
    members,
    refuse_infinite,
    solved,
    start_of,
    task_on,
    train,
)  # fmt: skip
from visionft.tasks.run import open_run
from visionft.tasks.seal import folders

from .deal import Dealt
from .floor import Floor, Held, Probes
from .judge import change, headline, judge, watched
from .predictor import HEADS, HeadsPredictor
from .rules import decide


@dataclass
class Tuned:
    """A finished run of several heads, with what the report shows."""

    recipe: Finetune
    predictor: HeadsPredictor
    dealt: Dealt
    metrics: dict[str, Metrics]  # "probe" (the floor) and "finetuned", on the test images
    said: dict[str, Floats]  # of the test images, N A each, numbers in their unit
    learned: Sequence[Learned]
    seconds: float = 0.0

    @property
    def out(self) -> Path:
        """The run folder."""
        return Path(self.recipe.out)

    @property
    def fitted(self) -> Fitted | None:
        """How the training of the network, or of the first of several, went; None where the heads were solved."""
        return self.learned[0].fitted

    @property
    def curves(self) -> Path:
        """The folder in which that network was trained."""
        return self.out / folders(self.learned)[0]


def finetune(recipe: Finetune, *, console: Console | None = None, log: Sequence[Sink] = ()) -> Tuned:
    """Run a recipe with `target`. Raises ConfigError, DataError or WeightsError before any training."""
    from .seal import seal

    parallel.start()
    console, began = console or Console(quiet=parallel.rank() > 0), time.perf_counter()
    recipe = complete(recipe)
    dealt = Dealt.of(recipe, console)
    parts, start = dealt.parts, start_of(recipe)
    remedies.suits(recipe, start)
    model, _ = build(recipe, dealt, start)
    attach(recipe, copy.deepcopy(model))  # what does not fit must be said before anything is written
    open_run(recipe, parts, start, dealt.fingerprint, console)
    low = Floor.of(start, dealt, recipe.size, console)
    before = forgotten.before(model, parts.retained, recipe.size, low.train.weight, low.train.bias)
    if recipe.tune == "probe":  # a probe is solved, not trained
        learned, held = [_probed(recipe, dealt, start, low.known)], low.held_out(recipe.seed)
    else:
        learned = _learn(recipe, dealt, start, low, console, log)
        said = answering(recipe, [one.model for one in learned], dealt).numbers(parts.val.pixels)
        held = Held(said, dealt.values(parts.val), parts.groups(parts.val))
        first = low.train.answers(low.val_z)
        worse, least, most = change(dealt.targets, held.said, first, held.values)
        if recipe.tune != "full" and least > 0:
            console.say(f"training made it worse, {worse:+.3g} loss ({least:+.3g} to {most:+.3g}) on validation "
                        "images: the start answers")  # fmt: skip
            learned, held = [_probed(recipe, dealt, start, low.train, learned[0])], held._replace(said=first)
    if recipe.refit:
        console.say("once more, with the validation images")
        learned = [_refit(recipe, dealt, learned[0], start, low, console, log)]
    done = _measure(recipe, dealt, learned, held, low, console)
    done.seconds = time.perf_counter() - began
    seal(done, console, before=before)
    return done


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe, console = complete(recipe), console or Console()
    dealt, start = Dealt.of(recipe, console, dry=True), start_of(recipe)
    remedies.suits(recipe, start)
    model, training = build(recipe, dealt.folds(recipe)[0] if recipe.folds > 1 else dealt, start)
    learner, images = remedies.kept(recipe, model, training, dealt.parts.retained)
    attach(recipe, model)
    return plan(learner, images, recipe, **repeated(recipe))


def build(recipe: Finetune, dealt: Dealt, start: Backbone) -> tuple[Heads, Views]:
    """The heads on a copy of the start, and the images they train on."""
    part, model = dealt.parts.train, task_on(recipe, start, targets=[target.facts() for target in dealt.targets])
    return model, images_for(recipe, model, part, columns=model.columns(part.pixels, part.table, recipe.size))


def answering(recipe: Finetune, networks: Sequence[Any], dealt: Dealt) -> HeadsPredictor:
    """The networks as one that answers, before anything is decided."""
    return HeadsPredictor(networks, dealt.targets, images_of(recipe))


def complete(recipe: Finetune) -> Finetune:
    """The recipe with its task and a budget. Raises ConfigError for a wrong key, which must not wait for the images."""
    columns(recipe.target)
    name, options = config.named(recipe.task, "task")
    if name not in ("classify", HEADS):
        raise ConfigError(f"target= is learnt by task={HEADS}, not by task={name}; leave task out")
    recipe = dataclasses.replace(recipe, task={"name": HEADS, **options})
    objective.find(recipe.task, "task")
    if recipe.sampler != "natural":
        raise ConfigError("sampler is for one label an image, not for columns (target=); leave sampler out")
    remedies.check(recipe)
    if str(recipe.tune).startswith("auto"):
        raise ConfigError("tune=auto is for one label an image, not for columns (target=); try tune=probe-then-full")
    return budgeted(recipe)


def begin(recipe: Finetune, dealt: Dealt, start: Backbone, heads: Probes) -> Begun:
    """Everything that training takes; `heads` are probes of the training images to begin with."""
    model, training = build(recipe, dealt, start)
    if recipe.tune != "full":
        model.start_from(heads.weight, heads.bias)
    learner, images = remedies.kept(recipe, model, training, dealt.parts.retained)
    attach(recipe, model)
    predictor, val = answering(recipe, [model], dealt), dealt.parts.val
    values = dealt.values(val)

    def evaluate(_: Any) -> Metrics:
        said = predictor.numbers(val.pixels, quick=True)
        refuse_infinite(torch.from_numpy(said))
        return watched(dealt.targets, said, values, predictor.rules)

    return Begun(model, learner, images, evaluate)


def _learn(
    recipe: Finetune, dealt: Dealt, start: Backbone, low: Floor, console: Console, log: Sequence[Sink]
) -> list[Learned]:
    """The networks of the run: one, or one a fold, each in a folder of its own."""
    if recipe.folds < 2:
        return [train(recipe, begin(recipe, dealt, start, low.train), Path(recipe.out), console, log)]
    made, folds = list[Learned](), dealt.folds(recipe)
    for own, one in zip(folds, members(recipe, len(folds)), strict=True):
        part, learned = own.parts.train, finished(one.out)
        if learned is None:
            groups = own.parts.groups(part)
            heads = Probes.fit(own.targets, part.features(start, recipe.size), own.values(part), groups=groups)
            learned = train(one.recipe, begin(one.recipe, own, start, heads), one.out, console, log, name=one.name)
        made.append(learned)
    return made


def _probed(
    recipe: Finetune, dealt: Dealt, start: Backbone, heads: Probes, tried: Learned | None = None
) -> Learned:  # fmt: skip
    """Probes on the start, of which nothing else has learnt."""
    model, _ = build(recipe, dealt, start)
    model.start_from(heads.weight, heads.bias)
    return solved(model, tried)


def _refit(
    recipe: Finetune, dealt: Dealt, first: Learned, start: Backbone, low: Floor, console: Console, log: Sequence[Sink]
) -> Learned:
    """Train on all that may be looked at, for as many passes as were best without the validation images."""
    best = first.fitted.best_step if first.fitted else 0
    if not best and recipe.tune != "full":  # no step was better than the start
        return _probed(recipe, dealt, start, low.known, first)
    again = refitting(recipe, best, dealt.parts.more)
    begun = begin(again, dataclasses.replace(dealt, parts=dealt.parts.all_learned()), start, low.known)
    return train(again, begun, Path(recipe.out) / "refit", console, log, choose=False, name="refit")


def _measure(
    recipe: Finetune, dealt: Dealt, learned: Sequence[Learned], held: Held, low: Floor,
    console: Console,
) -> Tuned:  # fmt: skip
    """Decide how to answer by images that were held out, and judge that once on the test images."""
    predictor = answering(recipe, [one.model for one in learned], dealt)
    own = recipe.tune != "probe" and not recipe.refit  # held-out answers are those of this network
    rules = decide(dealt.targets, *held, way=recipe.decide, coverage=recipe.coverage, temper=own)
    for words in (words for rule in rules.values() for words in rule.words):
        console.say(f"  {words}")
    test, plain = dealt.parts.test, predictor.rules
    said = {"probe": low.known.answers(low.test_z), "finetuned": predictor.numbers(test.pixels)}
    predictor.rules = rules
    values, groups = dealt.values(test), test.table.groups if test.table.grouped else None
    metrics = {
        name: judge(dealt.targets, numbers, values, rules if name == "finetuned" else plain, groups=groups)
        for name, numbers in said.items()
    }
    for name, found in metrics.items():
        console.say(f"  test, {'floor, probe on frozen features' if name == 'probe' else recipe.tune}: "
                    f"{line(dealt.targets, found)}")  # fmt: skip
    return Tuned(recipe, predictor, dealt, metrics, said, learned)


def line(targets: Sequence[Target], m: Metrics) -> str:
    """One number a head with its interval, in words."""
    told = []
    for key in (key for key in map(headline, targets) if key in m):
        column, _, name = key.rpartition("/")
        told.append(f"{column} {name.replace('_', ' ')} {m[key]:.3f} ({m[f'{key}_low']:.3f} to {m[f'{key}_high']:.3f})")
    return ", ".join(told) or "no test images with known values"
