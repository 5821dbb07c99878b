"""One network learns: from a probe's head, as the recipe says, judged by the images it may choose by."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionft import averaging, backbones, config, norms, objective, runs
from visionft.adapters.attach import adapt
from visionft.backbone import Backbone
from visionft.best import score
from visionft.data.records import Table
from visionft.data.views import Views
from visionft.errors import DivergedError
from visionft.evaluation.classification import summarise
from visionft.evaluation.probe import Probe, fit_probe
from visionft.evaluation.worth import Labelled
from visionft.feed import Feed
from visionft.fitted import Fitted, Metrics
from visionft.log import Console, Sink, clock, console_sink
from visionft.objective import Objective
from visionft.recipe import Finetune
from visionft.retention import remedies
from visionft.train import fit

from .networks import network
from .parts import Parts
from .predictor import Predictor


@dataclass
class Learned:
    """A trained network, how its training went, and how far it went from its start."""

    model: Any
    fitted: Fitted | None = None
    share: float = 1.0  # of the way from start to end, where `average` looked for the best
    learnt: int = 0  # weights that had learnt by the end, an adapter's included

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        fitted = self.fitted.facts() if self.fitted else None
        return {
            "backbone": self.model.backbone.spec(), "fitted": fitted, "share": self.share, "learnt": self.learnt,
        }  # fmt: skip

    @classmethod
    def of(cls, model: Any, facts: Mapping[str, Any]) -> Learned:
        """Read what `facts` wrote."""
        return cls(model, Fitted(**facts["fitted"]) if facts["fitted"] else None, facts["share"], facts["learnt"])


def solved(model: Any, tried: Learned | None = None) -> Learned:
    """A network of which nothing but the head has learnt, with how the training went that was of no use."""
    fitted = dataclasses.replace(tried.fitted, best_step=0) if tried and tried.fitted else None
    return Learned(model, fitted, learnt=sum(p.numel() for p in model.head.parameters()))


def start_of(recipe: Finetune) -> Backbone:
    """The network as it is before any training; every network of a run begins as a copy of it."""
    torch.manual_seed(recipe.seed)
    return backbones.load(recipe.backbone, recipe.weights, channels=recipe.channels, size=recipe.size)


def build(recipe: Finetune, parts: Parts, start: Backbone) -> tuple[Any, Views]:
    """The task on a copy of the start, and the images it trains on."""
    model = task_on(recipe, start, **told(parts.train.table))
    return model, images_for(recipe, model, parts.train, labels=parts.train.table.labels)


def told(table: Table) -> dict[str, Any]:
    """What a task may want to know of the training images."""
    counts = np.bincount(table.labels, minlength=len(table.classes)).tolist()
    return {"classes": len(counts), "counts": counts}


def task_on(recipe: Finetune, start: Backbone, **told: Any) -> Any:
    """The recipe's task on a copy of the start, told as much as it asks for; its head is a function of the seed."""
    torch.manual_seed(recipe.seed)
    cls, options = objective.find(recipe.task, "task")
    return cls(copy.deepcopy(start), **{**filled(cls, told), **options})


def filled(task: type[Objective], told: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a task may want to know, what it asks for."""
    return {name: value for name, value in told.items() if name in config.options(task)}


def images_for(recipe: Finetune, model: Any, part: Labelled, **known: Any) -> Views:
    """Images to train on, as the task sees them and the recipe changes them, with what is known of each."""
    views = {"image": dataclasses.replace(model.sees["image"], policy=recipe.policy)}
    size = {"image": recipe.size}
    return Views(part.pixels, views, size, channels=recipe.channels, seed=recipe.seed, **known)


def attach(recipe: Finetune, model: Any) -> None:
    """Put the recipe's adapter to work; it begins as the seed says, whatever was drawn before."""
    if recipe.adapter != "none":
        torch.manual_seed(recipe.seed)
        adapt(model.backbone, recipe.adapter)


class Begun(NamedTuple):
    """What is about to train."""

    model: Any  # the task on its backbone
    learner: Objective  # the model, with a further term of the loss where `keep` asks for one
    images: Any
    evaluate: Callable[[Any], Metrics]


def begin(recipe: Finetune, parts: Parts, start: Backbone, head: Probe | None) -> Begun:
    """Everything that training takes; `head` is a probe of the training images to begin with."""
    model, training = build(recipe, parts, start)
    if head is not None:
        model.start_from(head.weight, head.bias)
    learner, images = remedies.kept(recipe, model, training, parts.retained)
    attach(recipe, model)
    evaluate = Evaluate(Predictor([model], parts.train.table.classes, images_of(recipe)), parts.val)
    return Begun(model, learner, images, evaluate)


def probed(recipe: Finetune, parts: Parts, start: Backbone) -> Probe | None:
    """A probe of the training images on features of the start, for whoever begins with one."""
    if recipe.tune == "full":
        return None
    features = parts.train.features(start, recipe.size)
    classes = len(parts.train.table.classes)
    return fit_probe(features, parts.train.labels, classes=classes, groups=parts.groups(parts.train))


class Member(NamedTuple):
    """One network of several: its recipe, the folder that resumes it, and its name."""

    recipe: Finetune
    out: Path
    name: str


def members(recipe: Finetune, count: int) -> list[Member]:
    """The networks of an ensemble: each has a seed of its own and an equal share of the minutes."""
    own, out = dataclasses.replace(recipe, minutes=recipe.minutes and recipe.minutes / count), Path(recipe.out)
    return [
        Member(dataclasses.replace(own, seed=recipe.seed + at), out / f"fold-{at}", f"network {at + 1} of {count}")
        for at in range(count)
    ]


def finished(out: Path) -> Learned | None:
    """The network of a folder, where it was finished before the rest of its run was interrupted."""
    return Learned.of(network(out), runs.info(out)) if (out / "run.json").is_file() else None


def learn(
    recipe: Finetune, parts: Parts, start: Backbone, head: Probe | None, out: Path, console: Console,
    log: Sequence[Sink], *, choose: bool = True, name: str = "fine-tuning",
) -> Learned:  # fmt: skip
    """Train one network, which `out` resumes, from a probe's head or from its own.

    Without `choose` nothing is kept back: it trains as long as the recipe says and keeps its end.
    """
    if learned := finished(out):
        return learned
    return train(recipe, begin(recipe, parts, start, head), out, console, log, choose=choose, name=name)


def train(
    recipe: Finetune, begun: Begun, out: Path, console: Console, log: Sequence[Sink],
    *, choose: bool = True, name: str = "fine-tuning",
) -> Learned:  # fmt: skip
    """Train what is ready, as `learn` does."""
    model, learner, images, evaluate = begun
    start = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()} if recipe.average else {}
    sink = runs.sinks(out, recipe, console_sink(console, name), *log)

    def watched(model: Any) -> Metrics:
        metrics = evaluate(model)
        score(recipe.metric, metrics)  # a name that nothing measures is a typo, also where it decides nothing
        return metrics

    fitted = fit(learner, images, recipe, out=out, evaluate=watched if choose else None, log=sink)
    console.say(f"{name}: {fitted.steps} steps in {clock(fitted.seconds)} in {fitted.precision}, "
                f"{fitted.stopped or 'ran to its end'}")  # fmt: skip
    again = norms.recalibration(learner, Feed(images, recipe, model.backbone.mean.device), recipe)
    remedies.settle(learner)
    again()
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not (recipe.average and choose):
        return Learned(model, fitted, learnt=learnt)
    share = averaging.best_share(model, start, lambda: score(recipe.metric, evaluate(model)), ready=again)
    console.say(f"{name}: kept the weights {share:.0%} of the way from start to end, by {recipe.metric} on validation")
    return Learned(model, fitted, share, learnt)


class Evaluate:
    """Validation, as the loop calls it."""

    def __init__(self, predictor: Predictor, val: Labelled) -> None:
        self.predictor, self.val = predictor, val

    def __call__(self, model: Objective) -> Metrics:
        said = self.predictor.probabilities(self.val.pixels, quick=True)
        refuse_infinite(said)
        found = summarise(said, self.val.labels, classes=self.val.table.classes, resamples=1)
        return {k: v for k, v in found.items() if not k.endswith(("_low", "_high")) and "/" not in k and k != "ece"}


def refuse_infinite(said: Tensor) -> None:
    """Raise DivergedError when a network's answers are no numbers: metrics of them would say nothing."""
    if not said.isfinite().all():
        raise DivergedError("the network's answers to validation images are not finite; try a third of optim.lr")


def images_of(recipe: Finetune) -> dict[str, int]:
    """How a predictor must read images to see them as training did."""
    flips = {"flips": 1} if recipe.flips else {}
    return {"size": recipe.size, "channels": recipe.channels, "white": recipe.white, **flips}
