"""The table of remedies against forgetting, and how a recipe's `keep` becomes one at work."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from visionft import config, parallel
from visionft.backbone import Backbone
from visionft.data.views import Views
from visionft.errors import ConfigError
from visionft.features import EVALUATION
from visionft.objective import Objective, View
from visionft.recipe import Finetune

from .ewc import EWC
from .kept import Kept
from .l2sp import L2SP
from .lwf import LwF
from .replay import Replay
from .retained import Retained
from .start import compared
from .wise import Wise

REMEDIES: dict[str, type[Kept]] = {"l2sp": L2SP, "ewc": EWC, "lwf": LwF, "replay": Replay, "wise": Wise}


def check(recipe: Finetune) -> dict[str, Any]:
    """The options of the recipe's remedy, all of them. Raises ConfigError for what cannot be; it needs no model."""
    name, options = config.named(recipe.keep, "keep")
    if recipe.retained is not None and recipe.folds > 1:
        raise ConfigError("retained images judge one network; leave folds out, or leave retained out")
    if name == "none":
        if options:
            raise ConfigError(f"keep.{next(iter(options))} belongs to a remedy; name it, e.g. keep.name=l2sp")
        return {}
    if name not in REMEDIES:
        raise ConfigError(f"no remedy against forgetting is called {name!r}{config.suggest(str(name), REMEDIES)}")
    remedy = REMEDIES[name]
    plain = {key: option.default for key, option in config.options(remedy).items()}
    made = plain | config.bind(remedy, options, "keep")
    if low := [key for key, value in made.items() if isinstance(value, (int, float)) and not value > 0]:
        raise ConfigError(f"keep.{low[0]}={made[low[0]]} makes no sense: it must be above 0")
    _fits(recipe, name, remedy, made)
    return made


def _fits(recipe: Finetune, name: str, remedy: type[Kept], options: dict[str, Any]) -> None:
    if recipe.tune == "probe":
        raise ConfigError(
            f"keep={name} with tune=probe: a probe changes nothing that could be forgotten; leave keep out"
        )
    if remedy.moves and recipe.adapter != "none":
        raise ConfigError(f"keep={name} holds the network's own weights, which an adapter leaves as they are; "
                          "take keep=lwf or keep=replay, or leave adapter out")  # fmt: skip
    if name == "wise" and (recipe.tune == "full" or not options["share"] <= 1):
        way = "begin with a head (tune=probe-then-full)" if recipe.tune == "full" else "take a share of at most 1"
        raise ConfigError(f"keep=wise goes part of the way from the start to the end; {way}")
    if name == "wise" and recipe.average:
        raise ConfigError("keep=wise and average both choose a share of the way; leave one of them out")
    share = recipe.batch // recipe.accumulate // parallel.world()
    if remedy.replays and recipe.retained is None:
        raise ConfigError("keep=replay needs images to replay: name them, e.g. retained=photos/")
    if remedy.replays and share % options["every"]:
        raise ConfigError(f"keep.every={options['every']} does not divide the {share} images that are computed at once")


def suits(recipe: Finetune, backbone: Backbone) -> None:
    """Raise ConfigError when the recipe's remedy needs what these weights have not."""
    compared(backbone, check(recipe).get("what", "auto"))


def kept(
    recipe: Finetune, task: Objective, training: Views, retained: Retained | None
) -> tuple[Objective, Dataset[Any]]:
    """What to fit, and on what: the task itself on the new images, or with the recipe's remedy around it.

    Ask before an adapter is put to work: what is kept is what the network gave without.
    """
    name, _ = config.named(recipe.keep, "keep")
    if name == "none":
        return task, training
    old = retained.memory.pixels if retained else None
    plain = _views(training.pixels if old is None else old, EVALUATION, task.backbone, recipe)
    changed = None if old is None else _views(old, dict(training.views), task.backbone, recipe)
    torch.manual_seed(recipe.seed)
    remedy = REMEDIES[name](task, plain, **check(recipe))  # type: ignore[call-arg]
    return remedy, remedy.deal(training, changed)


def settle(learner: Objective) -> None:
    """After `fit`: leave the task where its remedy wants it."""
    if isinstance(learner, Kept):
        learner.settle()


def _views(pixels: Any, views: dict[str, View], backbone: Backbone, recipe: Finetune) -> Views:
    return Views(pixels, views, {"image": recipe.size}, channels=backbone.channels, seed=recipe.seed)
