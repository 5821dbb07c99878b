"""One network learns: from a probe's head, as the recipe says, judged by the images it may choose by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from visionft import averaging, backbones, config, objective, runs, tuning
from visionft.adapters.attach import adapt
from visionft.best import score
from visionft.data.views import Views
from visionft.errors import DivergedError
from visionft.evaluation.classification import summarise
from visionft.evaluation.probe import Probe, fit_probe
from visionft.evaluation.worth import Labelled
from visionft.log import Console, Sink, clock, console_sink
from visionft.objective import Objective
from visionft.recipe import Finetune
from visionft.retention import remedies
from visionft.train import Fitted, Metrics, fit

from .parts import Parts
from .predictor import Predictor, network


@dataclass
class Learned:
    """A trained network, how its training went, and how far it went from its start."""

    model: Any
    fitted: Fitted | None = None
    share: float = 1.0  # of the way from start to end, where `average` looked for the best


def build(recipe: Finetune, parts: Parts) -> tuple[Any, Views]:
    """The task on its backbone, and the images it trains on."""
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.task)
    backbone = backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)
    model: Objective = cls(backbone, **{**filled(cls, parts), **options})
    views = {"image": dataclasses.replace(model.sees["image"], policy=recipe.policy)}
    training = Views(
        parts.train.pixels,
        views,
        {"image": recipe.size},
        labels=parts.train.table.labels,
        channels=recipe.channels,
        seed=recipe.seed,
    )
    return model, training


def filled(task: type[Objective], parts: Parts) -> dict[str, Any]:
    """What a task is told of the training images, as far as it asks."""
    table = parts.train.table
    counts = np.bincount(table.labels, minlength=len(table.classes)).tolist()
    return {name: value for name, value in (("classes", len(counts)), ("counts", counts))
            if name in config.options(task)}  # fmt: skip


def attach(recipe: Finetune, model: Any) -> None:
    """Put the recipe's adapter to work; it begins as the seed says, whatever was drawn before."""
    if recipe.adapter != "none":
        torch.manual_seed(recipe.seed)
        adapt(model.backbone, recipe.adapter)


def learning(recipe: Finetune, parts: Parts) -> tuple[int, int]:
    """How many weights learn at any time of a run, an adapter's included, and how many the network has."""
    model, _ = build(recipe, parts)
    count = sum(p.numel() for p in model.parameters())
    if recipe.tune == "probe":
        return sum(p.numel() for p in model.head.parameters()), count
    attach(recipe, model)
    return sum(p.numel() for group in tuning.groups(model, recipe) for p in group["params"]), count


class Begun(NamedTuple):
    """What is about to train."""

    model: Any  # the task on its backbone
    learner: Objective  # the model, with a further term of the loss where `keep` asks for one
    images: Any
    evaluate: Callable[[Any], Metrics]


def begin(recipe: Finetune, parts: Parts, head: Probe | None) -> Begun:
    """Everything that training takes; `head` is a probe of the training images to begin with."""
    model, training = build(recipe, parts)
    if head is not None:
        model.start_from(head.weight, head.bias)
    learner, images = remedies.kept(recipe, model, training, parts.retained)
    attach(recipe, model)
    evaluate = Evaluate(Predictor([model], parts.train.table.classes, images_of(recipe)), parts.val)
    return Begun(model, learner, images, evaluate)


def probed(recipe: Finetune, parts: Parts) -> Probe:
    """A probe of the training images on the features that the run starts from."""
    features = parts.train.features(build(recipe, parts)[0].backbone, recipe.size)
    return fit_probe(features, parts.train.labels, classes=len(parts.train.table.classes))


def learn(
    recipe: Finetune, parts: Parts, head: Probe | None, out: Path, console: Console, log: Sequence[Sink],
    *, choose: bool = True, name: str = "fine-tuning",
) -> Learned:  # fmt: skip
    """Train one network, which `out` resumes, from a probe's head or from its own.

    Without `choose` nothing is kept back: it trains as long as the recipe says and keeps its end.
    """
    if (out / "run.json").is_file():  # finished before the rest of the run was interrupted
        return Learned(network(out), Fitted(**runs.info(out)["fitted"]))
    return train(recipe, begin(recipe, parts, head), out, console, log, choose=choose, name=name)


def train(
    recipe: Finetune, begun: Begun, out: Path, console: Console, log: Sequence[Sink],
    *, choose: bool = True, name: str = "fine-tuning",
) -> Learned:  # fmt: skip
    """Train what is ready, as `learn` does."""
    model, learner, images, evaluate = begun
    start = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()} if recipe.average else {}
    sink = runs.sinks(out, recipe, console_sink(console, name), *log)
    fitted = fit(learner, images, recipe, out=out, evaluate=evaluate if choose else None, log=sink)
    console.say(f"{name}: {fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}, "
                f"{fitted.stopped or 'ran to its end'}")  # fmt: skip
    remedies.settle(learner)
    if not (recipe.average and choose):
        return Learned(model, fitted)
    share = averaging.best_share(model, start, lambda: score(recipe.metric, evaluate(model)))
    console.say(f"{name}: kept the weights {share:.0%} of the way from start to end, by {recipe.metric} on validation")
    return Learned(model, fitted, share)


class Evaluate:
    """Validation, as the loop calls it."""

    def __init__(self, predictor: Predictor, val: Labelled) -> None:
        self.predictor, self.val = predictor, val

    def __call__(self, model: Objective) -> Metrics:
        said = self.predictor.probabilities(self.val.pixels, quick=True)
        if not said.isfinite().all():
            raise DivergedError("the network's answers to validation images are not finite; try a third of optim.lr")
        found = summarise(said, self.val.labels, classes=self.val.table.classes, resamples=1)
        return {k: v for k, v in found.items() if not k.endswith(("_low", "_high")) and "/" not in k}


def images_of(recipe: Finetune) -> dict[str, int]:
    """How a predictor must read images to see them as training did."""
    flips = {"flips": 1} if recipe.flips else {}
    return {"size": recipe.size, "channels": recipe.channels, "white": recipe.white, **flips}
