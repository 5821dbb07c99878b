"""What a pretraining run starts from: the objective, its images, those that watch it, and labels to judge it by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visionft import backbones, config, norms, objective, parallel, preprocessing, tuning
from visionft.backbone import Backbone
from visionft.data.prepare import Prepared, decoded, override, prepare
from visionft.data.scan import scan
from visionft.data.sources import read
from visionft.data.views import Views
from visionft.errors import ConfigError, DataError, VisionftError
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.objective import Objective, View
from visionft.plan import SAMPLED
from visionft.recipe import Pretrain

from . import border
from .watch import IMAGES, interval

EPOCHS = 100


@dataclass(frozen=True)
class Setup:
    """A recipe without gaps, and what it works on."""

    recipe: Pretrain
    ready: Prepared
    model: Objective
    training: Views
    held: Views  # what the run is watched on: two views of at most a tenth of the images, which training never sees
    labelled: Labelled | None = None  # these judge
    choosing: Labelled | None = None  # these choose, and are others wherever there are enough

    @property
    def about(self) -> str:
        """In words: what is trained, on what, from which weights."""
        kept = " Its batch norms stay as they are." if norms.stay(self.model, self.recipe) else ""
        return (
            f"{type(self.model).__name__} on {len(self.training)} images. Start: {self.model.backbone.loaded}.{kept} "
            f"Peak learning rate: {tuning.rate(self.model, self.recipe):g}."
        )

    def doubts(self) -> list[str]:
        """What looks wrong with the images for these weights, in words."""
        backbone, pixels = self.model.backbone, self.ready.pixels
        found = preprocessing.check(backbone, pixels, self.recipe.size), border.enlarged(self.ready, backbone)
        return [doubt for doubt in found if doubt]


def setup(
    recipe: Pretrain, console: Console, *,
    prepared: Prepared | None = None, labelled: Labelled | None = None, dry: bool = False,
) -> Setup:  # fmt: skip
    """Read the images, build the objective, and find every reason not to begin.

    `dry` takes a sample of the images instead of decoding them all, and stores nothing.
    Raises ConfigError, DataError or WeightsError.
    """
    tuning.check(recipe.tune)
    if not (recipe.steps or recipe.epochs or recipe.minutes):
        recipe = dataclasses.replace(recipe, epochs=EPOCHS)
    objective.find(recipe.objective)  # a wrong key must not wait for the images
    ready = prepared or untested(prepare(recipe, console, labelled=False, dry=dry), console)
    model, training, held = build(recipe, ready, console, dry=dry)
    if labelled is None and recipe.probe is not None and not dry:
        labelled = _labelled(recipe, console)
    judging, choosing = _shared(labelled, recipe.seed)
    every = interval(recipe.batch, _pixels(model), len(held), len(choosing.table) if choosing else 0)
    recipe = dataclasses.replace(recipe, eval_every=recipe.eval_every or every)
    return Setup(recipe, ready, model, training, held, judging, choosing)


def untested(ready: Prepared, console: Console) -> Prepared:
    """Without the images that the source says are for testing: those must be unseen. Raises DataError for no others."""
    places = [at for at, record in enumerate(ready.table) if record.split != "test"]
    left = len(ready.table) - len(places)
    if not left:
        return ready
    if not places:
        raise DataError(f"all images of {ready.table.source} are for testing; name others to pretrain on")
    console.say(f"{left} test images of {ready.table.source} are left out: what is later measured on them is unseen")
    table, pixels = ready.part(places)
    return dataclasses.replace(ready, table=table, pixels=pixels)


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
    try:
        model = cls(backbone, **options)
    except VisionftError:
        raise
    except (AssertionError, TypeError, ValueError) as error:  # of timm, lightly or Python
        raise border.unfit(config.named(recipe.objective, "objective")[0], backbone, error) from error
    order = np.random.default_rng((recipe.seed, 0x4E1D)).permutation(len(ready.table))
    aside = min(IMAGES, max(2, len(order) // 10))
    border.filled(model, recipe.batch, recipe.accumulate * parallel.world(), len(order) - aside, aside)
    if model.note:
        console.say(model.note)
    views = override(dict(model.sees), recipe.views)
    columns = _columns(model, ready, order[aside:], recipe.size, console, dry)
    batched = recipe.batched == "yes" or (recipe.batched == "auto" and parallel.start().type == "cuda")
    training = _views(ready, order[aside:], views, backbone, recipe, columns, batched)
    border.drawn(recipe, training)
    border.tried(model, training)
    pair = {"views": View(next(iter(views.values())).policy, count=2)}
    return model, training, _views(ready, order[:aside], pair, backbone, recipe)


def _views(
    ready: Prepared, indices: np.ndarray, views: dict[str, View], backbone: Backbone, recipe: Pretrain,
    columns: dict[str, Tensor] | None = None, batched: bool = False,
) -> Views:  # fmt: skip
    _, pixels = ready.part(indices)
    sides = {k: recipe.size if v.share == 1 else backbone.side(recipe.size * v.share) for k, v in views.items()}
    return Views(pixels, views, sides, columns=columns, channels=recipe.channels, seed=recipe.seed, batched=batched)


def _columns(
    model: Objective, ready: Prepared, indices: np.ndarray, size: int, console: Console, dry: bool
) -> dict[str, Tensor]:
    """What the objective wants to know of its images; a dry run asks for as few as it will look at, and keeps none."""
    asked = indices[:SAMPLED] if dry else indices
    table, pixels = ready.part(asked)
    made = model.columns(pixels, table, size, store=not dry, progress=console.progress("what the objective asks for"))
    return {name: rows[torch.arange(len(indices)) % len(asked)] for name, rows in made.items()}


def _pixels(model: Objective) -> float:
    """Full-size images that one sample amounts to."""
    return sum((view.count or 1) * view.share**2 for view in model.sees.values())


def _shared(labelled: Labelled | None, seed: int) -> tuple[Labelled | None, Labelled | None]:
    """Those that judge and those that choose: weights look better than they are to the images that chose them."""
    if labelled is None:
        return None, None
    try:
        halves = labelled.halves(seed)
        for half in halves:
            border.judged(half)
    except (ConfigError, DataError):  # too few: the same do both, and the verdict says so
        return labelled, labelled
    return halves


def _labelled(recipe: Pretrain, console: Console) -> Labelled:
    source = read(recipe.probe, labelled=True)
    table = scan(source, bad="error", channels=recipe.channels, white=recipe.white).table
    learnt = [at for at, record in enumerate(table) if record.split != "test"]
    if len(learnt) < len(table):
        console.say(f"{len(table) - len(learnt)} test images of {recipe.probe} are left out: they choose nothing")
    table = table.take(learnt)
    labelled = Labelled(table, decoded(recipe, table, console))
    border.judged(labelled)
    return labelled
