"""What the recommended runs would take on this machine, from training steps that are timed here."""

from __future__ import annotations

import dataclasses
from typing import Any

from visionft import config
from visionft.data.prepare import Prepared
from visionft.data.views import Views
from visionft.plan import Estimate, estimate
from visionft.pretraining.start import build
from visionft.recipe import Finetune, Pretrain
from visionft.tasks.learn import attach, images_for, start_of, task_on, told

from . import commands
from .facts import Facts
from .measure import Looked
from .page import Cost
from .rules import best_size

LOOKS = 10  # at validation images, in a run
SOLVED = 10.0  # seconds that a probe takes once features are there
TIMED = 8  # images of a pretraining step that is timed


def finetuning(facts: Facts, words: commands.Words, looked: Looked) -> Cost:
    """Features of all images, the steps, and the evaluations of a run that these words describe."""
    recipe = config.load(Finetune, {**words, "data": None})
    ms = next((one.ms for one in facts.measured.sizes if one.size == recipe.size), 0.0)
    held = facts.measured.aside
    if recipe.tune == "probe":
        return Cost(facts.data.images * ms / 1e3 + SOLVED, 0.0, "32-bit arithmetic")
    steps = max(1, round((recipe.epochs or 1) * (facts.data.images - held) * (1 - recipe.val) / recipe.batch))
    recipe, larger = _timed(dataclasses.replace(recipe, epochs=None, steps=steps), facts)
    found = estimate(*_task(recipe, looked), recipe)
    answered = facts.data.images + held + LOOKS * (facts.data.images - held) * recipe.val
    return _cost(found, larger * found.seconds + answered * ms / 1e3, larger)


def pretraining(facts: Facts, words: commands.Words | None, looked: Looked, ready: Prepared) -> Cost:
    """The steps of a pretraining run, timed on the labelled images: photos of one size cost the same."""
    least, _ = commands.PRETRAINING
    usual = {"backbone": facts.backbone, "weights": facts.weights, "steps": least}
    usual |= {"objective": commands.objective(facts)}
    recipe = config.load(Pretrain, {**(words or usual), "data": None, "size": best_size(facts)})
    images = (recipe.steps or least) * recipe.batch
    fits = 1 << (len(looked.some.table) * 3 // 4).bit_length() - 1
    recipe, larger = _timed(dataclasses.replace(recipe, batch=min(recipe.batch, fits)), facts)
    some = dataclasses.replace(ready, table=looked.some.table, pixels=looked.some.pixels)
    model, training, _ = build(recipe, some)
    found = estimate(model, training, recipe, TIMED)
    return _cost(found, larger * images * found.per_image, larger)


def _timed(recipe: Any, facts: Facts) -> tuple[Any, float]:
    """The recipe at no more than the size asked for, and how many times as many pixels it really has.

    Time goes with the area: tf_efficientnet_lite0 takes 2.8 times as long at 224 as at 128 pixels, whose area is 3.1
    times as large (benchmarks/results/depthwise.json).
    """
    size = min(recipe.size, facts.size)
    return dataclasses.replace(recipe, size=size), (recipe.size / size) ** 2


def _task(recipe: Finetune, looked: Looked) -> tuple[Any, Views]:
    some = looked.some
    model = task_on(recipe, start_of(recipe), **told(some.table))
    attach(recipe, model)
    return model, images_for(recipe, model, some, labels=some.table.labels)


def _cost(found: Estimate, seconds: float, larger: float) -> Cost:
    how = "16-bit arithmetic, measured faster here" if found.precision.bf16 else "32-bit arithmetic"
    return Cost(seconds, found.memory * larger, how)
