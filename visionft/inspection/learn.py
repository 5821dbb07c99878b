"""What a recipe asks for and what it will cost; what good photos teach a panel, and which of them stand out."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
import yaml

from visionft import backbones, config
from visionft.arrays import Floats
from visionft.data.prepare import Chosen, prepare
from visionft.errors import ConfigError, DataError, first_line
from visionft.log import Console, clock

from . import signs
from .eye import Seen
from .eyes import chosen, said
from .frame import Frame, Framed
from .once import once
from .panel import Panel
from .promise import Promise, check, least, percent
from .stream import stream
from .verbs import InspectFit
from .where import Scale

FOLDS = 10
ODD = 0.05  # of all good images, those that are expected to be named as suspects by chance
SAMPLED = 20  # images that a rehearsal learns from


def panel_of(recipe: InspectFit) -> Panel:
    """Backbone, eyes and frame."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights (weights=none) are the same ones every time
        backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels)
    return Panel(backbone.eval(), chosen(recipe.eyes, recipe.scale), Frame.of(recipe.border, recipe.region))


def learnt(
    panel: Panel, good: Sequence[np.ndarray], names: Sequence[str], console: Console, *, drop: bool
) -> tuple[list[Seen], list[str]]:
    """Let a panel learn; what the good photos look like to it, held out, and the names of those that stand out.

    With `drop` it learns again without these, though they are among what it is asked about afterwards.
    """
    _glance(panel, good[0])
    held = panel.fit(good, min(FOLDS, len(good)), console)
    odd = suspects([seen.score for seen in held])
    named = [names[at] for at in odd]
    if odd:
        console.say(f"{len(odd)} of the good images look like none of the others: {', '.join(named[:10])}")
    return (_without(panel, good, odd, console) if odd and drop else held), named


def _glance(panel: Panel, photo: np.ndarray) -> None:
    """Raise ConfigError where the backbone cannot look at such a photo, before the work begins."""
    images = Framed([photo], panel.frame)
    try:
        for _ in stream([eye.sight for eye in panel.eyes], panel.backbone, images):
            pass
    except (AssertionError, RuntimeError, IndexError, ValueError) as error:
        height, width = images.sizes[0]
        raise ConfigError(
            f"backbone={panel.backbone.name} cannot look at {width} x {height} pixels ({first_line(error)}); take a "
            "convolutional network or a plain ViT, which look at photos of any size, and layers that it has"
        ) from error


def standing(
    held: Sequence[Seen], good: Sequence[np.ndarray], false_reject: float, confidence: float | None
) -> tuple[Promise, Scale, Floats]:
    """What follows from how good photos look to a panel that has not learnt from them: threshold, colours, signs."""
    promise = Promise.of([seen.score for seen in held], false_reject, confidence)
    return promise, Scale.of([seen.map for seen in held], promise.rank), signs.table(held, good)


def suspects(scores: Sequence[float]) -> list[int]:
    """Places of good images that stand out from the others, the oddest first: a defect among them, or another product.

    Beyond the score that ODD images in all would reach, had scores above the median an exponential tail (as the largest
    of many have) whose scale is told by the best nine tenths, among which suspects are not.
    """
    values: Floats = np.asarray(scores, np.float64)
    middle, upper = np.quantile(values, [0.5, 0.9])
    limit = middle + (upper - middle) / np.log(5) * np.log(0.5 * len(values) / ODD)
    return [int(at) for at in np.argsort(-values) if values[at] > limit]


def rehearse(recipe: InspectFit, *, console: Console) -> list[str]:
    """Say what a recipe would do and cost, by learning from a few of the images; nothing is written."""
    ready = once(prepare(recipe, console, labelled=False, dry=True), console)
    n, panel = len(ready.table), panel_of(recipe)
    check(n, recipe.false_reject, recipe.confidence)
    few = Chosen(ready.pixels, range(min(SAMPLED, n)))
    quiet = Console(quiet=True)
    panel.fit(few, 2, quiet)  # the first of a size compiles kernels
    began = time.perf_counter()
    panel.fit(few, min(FOLDS, len(few)), quiet)
    seconds = (time.perf_counter() - began) * n / len(few)
    takes = least(recipe.false_reject, recipe.confidence)
    return [
        yaml.safe_dump(config.plain(recipe), sort_keys=False),
        f"{n} good images; false_reject={percent(recipe.false_reject)} takes {takes}",
        *(f"an eye on {said(eye)}, judged by {type(eye.scorer).__name__.lower()}" for eye in panel.eyes),
        f"about {clock(seconds)} to learn, from {len(few)} images measured here",
        "nothing was written.",
    ]


def _without(panel: Panel, good: Sequence[np.ndarray], odd: Sequence[int], console: Console) -> list[Seen]:
    """Learn again without suspects; what all good images, those too, look like then, held out."""
    rest = sorted(set(range(len(good))) - set(odd))
    if len(rest) < FOLDS:
        raise DataError(f"{len(odd)} of {len(good)} good images look like none of the others: too few are left")
    held = dict(zip(rest, panel.fit(Chosen(good, rest), FOLDS, console), strict=True))
    held |= zip(odd, panel.see(Chosen(good, odd)), strict=True)
    return [held[at] for at in range(len(good))]
