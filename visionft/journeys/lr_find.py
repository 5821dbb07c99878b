"""Which learning rate suits this task? A sweep of what fine-tuning would train, and a figure; no run is begun."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from visionft import plots
from visionft.atomic import replace
from visionft.data.prepare import prepare
from visionft.errors import ConfigError
from visionft.log import Console
from visionft.rates import Sweep, sweep
from visionft.retention.retained import retained
from visionft.tasks.complete import complete
from visionft.tasks.learn import begin, probed, start_of
from visionft.tasks.parts import Parts
from visionft.verbs import LrFind

from .ladder import NAMES


def lr_find(recipe: LrFind, *, console: Console | None = None) -> Sweep:
    """Sweep the rate of a fine-tuning recipe and draw the losses. Raises ConfigError where nothing is trained."""
    console = console or Console()
    if recipe.tune == "probe":
        raise ConfigError("tune=probe is solved, not trained: it has no rate to find; take another tune=")
    if recipe.tune in NAMES:
        raise ConfigError(
            f"tune={recipe.tune} trains several networks; name one to find a rate for, e.g. tune=layerwise"
        )
    complete(recipe)  # what a run would refuse is refused here, too
    parts = Parts.deal(prepare(recipe, console, labelled=True), recipe)
    parts = dataclasses.replace(parts, retained=retained(recipe, console))
    start = start_of(recipe)
    begun = begin(recipe, parts, start, probed(recipe, parts, start))
    console.say(f"{recipe.sweep} steps on a copy, at rates from {recipe.low:g} to {recipe.high:g}")
    found = sweep(begun.learner, begun.images, recipe, low=recipe.low, high=recipe.high, steps=recipe.sweep)
    if recipe.figure:
        figure = plots.sweep(found.rates, found.losses, found.smooth, found.suggestion)
        path = Path(recipe.figure)
        kind = path.suffix.removeprefix(".") or "png"
        replace(path, lambda beside: figure.savefig(beside, format=kind, dpi=160, facecolor="white"))
    return found
