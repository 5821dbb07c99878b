"""Learn columns of a table: one backbone and a head a column, from probes on frozen features to measured answers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionft import backbones, config, objective, parallel, preprocessing, runs, tuning
from visionft.adapters.attach import check
from visionft.arrays import Floats
from visionft.data.asked import columns
from visionft.data.targets import Flags, Target
from visionft.data.views import Views
from visionft.errors import ConfigError, DivergedError
from visionft.log import Console, Sink
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.tasks.heads import Heads
from visionft.tasks.learn import Begun, Learned, attach, images_of, train
from visionft.tasks.run import EPOCHS
from visionft.train import Fitted, Metrics

from .deal import Dealt
from .floor import Floor
from .judge import judge, watched
from .predictor import HEADS, HeadsPredictor
from .rules import decide


@dataclass
class Tuned:
    """A finished run of several heads, with what the report shows."""

    out: Path
    predictor: HeadsPredictor
    dealt: Dealt
    metrics: dict[str, Metrics]  # "probe" (the floor) and "finetuned", on the test images
    said: dict[str, Floats]  # of the test images, N A each, numbers in their unit
    learned: Learned
    seconds: float = 0.0

    @property
    def fitted(self) -> Fitted | None:
        """How training went; None where the heads were solved."""
        return self.learned.fitted


def finetune(recipe: Finetune, *, console: Console | None = None, log: Sequence[Sink] = ()) -> Tuned:
    """Run a recipe with `target`. Raises ConfigError, DataError or WeightsError before any training."""
    from .seal import seal

    parallel.start()
    console, began = console or Console(quiet=parallel.rank() > 0), time.perf_counter()
    recipe = complete(recipe)
    dealt = Dealt.of(recipe, console)
    parts, (model, training) = dealt.parts, build(recipe, dealt)
    if recipe.adapter != "none":
        attach(recipe, build(recipe, dealt)[0])  # what does not fit must be said before anything is written
    runs.begin(Path(recipe.out), recipe, dealt.fingerprint)
    console.say(f"{len(parts.train.table)} images to train, {len(parts.val.table)} to choose by, "
                f"{len(parts.test.table)} to test. Start: {model.backbone.loaded}")  # fmt: skip
    if doubt := preprocessing.check(model.backbone, parts.ready.pixels, recipe.size):
        console.say(doubt)
    low = Floor.of(model.backbone, dealt, recipe.size, console)
    if recipe.tune == "probe":  # a probe is solved, not trained
        model.start_from(low.known.weight, low.known.bias)
        learned, held = Learned(model), (low.held_out(recipe.seed), low.values)
    else:
        learned = _learn(recipe, dealt, model, training, low, console, log)
        held = answering(recipe, learned.model, dealt).numbers(parts.val.pixels), dealt.values(parts.val)
    done = _measure(recipe, dealt, learned, held, low, console)
    done.seconds = time.perf_counter() - began
    seal(done, recipe, console)
    return done


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe, console = complete(recipe), console or Console()
    model, training = build(recipe, Dealt.of(recipe, console, dry=True))
    attach(recipe, model)
    return plan(model, training, recipe)


def build(recipe: Finetune, dealt: Dealt) -> tuple[Heads, Views]:
    """The heads on their backbone, and the images they train on."""
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.task)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    model: Any = cls(backbone, targets=[target.facts() for target in dealt.targets], **options)
    part, side = dealt.parts.train, {"image": recipe.size}
    views = {"image": dataclasses.replace(model.sees["image"], policy=recipe.policy)}
    known = model.columns(part.pixels, part.table, recipe.size)
    return model, Views(part.pixels, views, side, columns=known, channels=recipe.channels, seed=recipe.seed)


def answering(recipe: Finetune, model: Any, dealt: Dealt) -> HeadsPredictor:
    """The network as one that answers, before anything is decided."""
    return HeadsPredictor(model, dealt.targets, images_of(recipe))


def complete(recipe: Finetune) -> Finetune:
    """The recipe with its task and a budget. Raises ConfigError for a wrong key, which must not wait for the images."""
    columns(recipe.target)
    name, options = config.named(recipe.task, "task")
    if name not in ("classify", HEADS):
        raise ConfigError(f"target= is learnt by task={HEADS}, not by task={name}; leave task out")
    recipe = dataclasses.replace(recipe, task={"name": HEADS, **options})
    objective.find(recipe.task)
    kept = config.named(recipe.keep, "keep")[0] != "none"
    refused = {"folds": recipe.folds > 1, "refit": recipe.refit, "sampler": recipe.sampler != "natural",
               "keep": kept, "retained": recipe.retained is not None}  # fmt: skip
    if given := [key for key, set_ in refused.items() if set_]:
        raise ConfigError(f"{given[0]} is for one label an image, not for columns (target=); leave {given[0]} out")
    if str(recipe.tune).startswith("auto"):
        raise ConfigError("tune=auto is for one label an image, not for columns (target=); try tune=probe-then-full")
    tuning.check(recipe.tune)
    if recipe.adapter != "none":
        check(recipe.adapter)
    trained = {"adapter": recipe.adapter != "none", "average": recipe.average}
    if recipe.tune == "probe" and any(trained.values()):
        key = next(name for name, asked in trained.items() if asked)
        raise ConfigError(f"tune=probe trains nothing that {key} could act on; leave tune out, or leave {key} out")
    if recipe.average and recipe.tune == "full":
        raise ConfigError("average needs a start that answers already; take tune=probe-then-full")
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)


def _learn(
    recipe: Finetune, dealt: Dealt, model: Heads, training: Views, low: Floor, console: Console, log: Sequence[Sink]
) -> Learned:
    if recipe.tune != "full":
        model.start_from(low.train.weight, low.train.bias)
    attach(recipe, model)
    predictor, val = answering(recipe, model, dealt), dealt.parts.val
    values = dealt.values(val)

    def evaluate(_: Any) -> Metrics:
        said = predictor.numbers(val.pixels, quick=True)
        if not np.isfinite(said).all():
            raise DivergedError("the network's answers to validation images are not finite; try a third of optim.lr")
        return watched(dealt.targets, said, values, predictor.rules)

    return train(recipe, Begun(model, model, training, evaluate), Path(recipe.out), console, log)


def _measure(
    recipe: Finetune, dealt: Dealt, learned: Learned, held: tuple[Floats, Floats], low: Floor, console: Console
) -> Tuned:
    """Decide how to answer by images that were held out, and judge that once on the test images."""
    predictor, solved = answering(recipe, learned.model, dealt), recipe.tune == "probe"
    rules = decide(dealt.targets, *held, way=recipe.decide, coverage=recipe.coverage, temper=not solved)
    for words in (words for rule in rules.values() for words in rule.words):
        console.say(f"  {words}")
    test, plain = dealt.parts.test, predictor.rules
    said = {"probe": low.known.answers(low.test_z), "finetuned": predictor.numbers(test.pixels)}
    predictor.rules = rules
    values = dealt.values(test)
    metrics = {
        name: judge(dealt.targets, numbers, values, rules if name == "finetuned" else plain)
        for name, numbers in said.items()
    }
    for name, found in metrics.items():
        console.say(f"  test, {'floor, probe on frozen features' if name == 'probe' else recipe.tune}: "
                    f"{line(dealt.targets, found)}")  # fmt: skip
    return Tuned(Path(recipe.out), predictor, dealt, metrics, said, learned)


HEADLINES = {"classes": "accuracy", "flags": "average_precision", "number": "r2", "levels": "kappa"}


def headline(target: Target) -> str:
    """The key of the one number that sums a head up."""
    several = isinstance(target, Flags) and target.width > 1
    return f"{target.column}/{'mean_average_precision' if several else HEADLINES[target.kind]}"


def line(targets: Sequence[Target], m: Metrics) -> str:
    """One number a head with its interval, in words."""
    told = []
    for key in (key for key in map(headline, targets) if key in m):
        column, _, name = key.rpartition("/")
        told.append(f"{column} {name.replace('_', ' ')} {m[key]:.3f} ({m[f'{key}_low']:.3f} to {m[f'{key}_high']:.3f})")
    return ", ".join(told) or "no test images with known values"
