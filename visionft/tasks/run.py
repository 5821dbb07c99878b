"""A fine-tuning run: split, the floor of frozen features, training, a decision, and a test that none of it saw."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionft import objective, parallel, preprocessing, runs, tuning
from visionft.adapters.attach import check
from visionft.data.prepare import Prepared, prepare
from visionft.errors import ConfigError
from visionft.evaluation.classification import summarise
from visionft.evaluation.decision import Decision
from visionft.evaluation.probe import Probe, fit_probe
from visionft.evaluation.worth import Labelled, floor, out_of_fold
from visionft.log import Console, Sink
from visionft.plan import plan
from visionft.recipe import Finetune
from visionft.train import Metrics

from .learn import Learned, attach, build, images_of, learn
from .parts import Parts
from .predictor import Predictor
from .seal import Finetuned, seal

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
    console, began = console or Console(quiet=parallel.rank() > 0), time.perf_counter()
    recipe = _complete(recipe)
    objective.find(recipe.task)  # a wrong key must not wait for the images
    ready = prepared or prepare(recipe, console, labelled=True)
    parts = Parts.deal(ready, recipe)
    model, _ = build(recipe, parts)
    start, out = model.backbone, Path(recipe.out)
    if recipe.adapter != "none":
        attach(recipe, build(recipe, parts)[0])  # what does not fit must be said before anything is written
    folds = parts.folds(recipe) if recipe.folds > 1 else []
    runs.begin(out, recipe, ready.table.fingerprint)
    console.say(f"{len(parts.train.table)} images to train, {len(parts.val.table)} to choose by, "
                f"{len(parts.test.table)} to test. Start: {start.loaded}")  # fmt: skip
    if doubt := preprocessing.check(start, ready.pixels, recipe.size):
        console.say(doubt)

    low = _floor(recipe, start, parts, console)
    for name, p in low.test.items():
        console.say(f"  floor, {name} on frozen features: {line(_judge(p, parts.test))}")
    if recipe.tune == "probe":  # a probe is solved, not trained
        model.start_from(low.probe.weight, low.probe.bias)
        learned, held = [Learned(model)], (low.held_out[0], low.held_out[1], False)
        validation = low.validation
    else:
        learned = _learn(recipe, parts, folds, low, console, log)
        p = _predictor(recipe, parts, learned).probabilities(parts.val.pixels)
        held, validation = (p, parts.val.labels, True), {**low.validation, "finetuned": p}
    if recipe.refit:
        console.say("once more, with the validation images")
        learned = [_refit(recipe, parts, learned[0], low.probe, console, log)]
        held = (*held[:2], False)

    predictor = _predictor(recipe, parts, learned)
    rule: Any = recipe.decide
    predictor.decision = Decision.fit(
        held[0].numpy(), held[1].numpy(), predictor.classes, rule=rule, coverage=recipe.coverage, temper=held[2]
    )
    for words in predictor.decision.words:
        console.say(f"  {words}")
    answers = {**low.test, "finetuned": predictor.probabilities(parts.test.pixels)}
    metrics = {name: _judge(p, parts.test) for name, p in answers.items()}
    console.say(f"  test, {recipe.tune}: {line(metrics['finetuned'])}")
    decided = predictor.decision.judge(answers["finetuned"].double().numpy(), parts.test.labels.numpy())
    done = Finetuned(
        out, predictor, metrics, answers, parts.test, decided, parts.val, validation, learned[0].fitted,
        learned[0].share, time.perf_counter() - began,
    )  # fmt: skip
    seal(done, recipe, parts, learned, console)
    return done


def rehearse(recipe: Finetune, *, console: Console | None = None) -> list[str]:
    """Say what a recipe would do and cost; nothing is written."""
    recipe = _complete(recipe)
    objective.find(recipe.task)
    ready = prepare(recipe, console or Console(), labelled=True, dry=True)
    model, training = build(recipe, Parts.deal(ready, recipe))
    attach(recipe, model)
    return plan(model, training, recipe)


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
        features = part.train.features(build(recipe, part)[0].backbone, recipe.size)
        head = fit_probe(features, part.train.labels, classes=len(part.train.table.classes)) if begins else None
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


def _predictor(recipe: Finetune, parts: Parts, learned: Sequence[Learned]) -> Predictor:
    return Predictor([found.model for found in learned], parts.train.table.classes, images_of(recipe))


@dataclass(frozen=True)
class Floor:
    """What frozen features answer: a probe of all that may be looked at, and one of the training images alone."""

    probe: Probe
    train: Probe
    test: dict[str, Tensor]  # probabilities N C of probe and knn
    validation: dict[str, Tensor]  # M C, of those fitted on the training images
    held_out: tuple[Tensor, Tensor]  # probabilities of probes that had not seen the image, and the labels


def _floor(recipe: Finetune, backbone: Any, parts: Parts, console: Console) -> Floor:
    z = {
        name: part.features(backbone, recipe.size, progress=console.progress(f"features, {name}"))
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    }
    known, labels, classes = torch.cat([z["train"], z["val"]]), parts.known.labels, len(parts.train.table.classes)
    probe, test = floor(known, labels, z["test"], classes)
    train, validation = floor(z["train"], parts.train.labels, z["val"], classes)
    told = out_of_fold(known, labels, classes, probe.l2)
    judged = ~told.isnan().any(1)
    return Floor(probe, train, test, validation, (told[judged], labels[judged]))


def _judge(probabilities: Tensor, test: Labelled) -> Metrics:
    groups = test.table.groups if test.table.grouped else None
    return summarise(probabilities, test.labels, classes=test.table.classes, groups=groups)


def _complete(recipe: Finetune) -> Finetune:
    tuning.check(recipe.tune)
    if recipe.adapter != "none":
        check(recipe.adapter)
    trained = {"adapter": recipe.adapter != "none", "folds": recipe.folds > 1, "refit": recipe.refit,
               "average": recipe.average}  # fmt: skip
    if recipe.tune == "probe" and any(trained.values()):
        key = next(name for name, asked in trained.items() if asked)
        raise ConfigError(f"tune=probe trains nothing that {key} could act on; leave tune out, or leave {key} out")
    if recipe.folds > 1 and recipe.refit:
        raise ConfigError("folds and refit exclude each other: every training image is in most folds already")
    if recipe.average and recipe.tune == "full":
        raise ConfigError("average needs a start that answers already; take tune=probe-then-full")
    if recipe.steps or recipe.epochs or recipe.minutes:
        return recipe
    return dataclasses.replace(recipe, epochs=EPOCHS)


def line(m: Metrics) -> str:
    """Accuracy with its interval, and AUROC, in words."""
    auroc = f", AUROC {m['auroc']:.3f}" if "auroc" in m else ""
    return f"accuracy {m['accuracy']:.3f} ({m['accuracy_low']:.3f} to {m['accuracy_high']:.3f}){auroc}"
