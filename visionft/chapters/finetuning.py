"""The report of a fine-tuning run: the answer, who is served worse, where it fails, how it came about, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from visionft import runs
from visionft.evaluation.gap import Course, verdict
from visionft.evaluation.twins import twins
from visionft.recipe import Finetune
from visionft.report import Report

from . import answers, course, start
from .data import data
from .data import twins as twins_chapter
from .pictures import pictures

if TYPE_CHECKING:
    from visionft.tasks.measure import Finetuned
    from visionft.tasks.parts import Parts

Chapter = Callable[[Report], None]
JUDGED = 512  # training images that the gap is measured on: enough for an interval of +-4 points


@dataclass(frozen=True)
class Story:
    """What the report of a run is made of."""

    done: Finetuned
    recipe: Finetune  # of the networks that answer
    parts: Parts
    origin: str  # of the weights that training started from
    curves: Path  # the folder of the network whose training is drawn
    features: Mapping[str, Tensor]  # of the frozen start: train, val and test, N D each
    learning: tuple[int, int]  # weights that learn, and all
    ladder: Sequence[Mapping[str, Any]] = ()
    more: Sequence[Chapter] = ()  # before the data


def finetuning_report(story: Story) -> None:
    """Write report.html into the folder of the run."""
    done = story.done
    test = done.test
    report = Report("Fine-tuning", f"{done.out}: {', '.join(test.table.classes)}")
    if len(test.table):
        report.text(answers.gain(done.probabilities, test))
        groups = sorted(set(test.table.groups)) if test.table.grouped and len(test.table.classes) == 2 else []
        note = "95 % bootstrap intervals over the test images, which no choice has looked at."
        answers.stages(report, done.metrics, groups, note)
    else:
        report.text("No image was held out for a test (test=0), so this says nothing of how good the answers are.")
    finetuned(report, story)
    report.heading("This run")
    facts = {"seed": str(story.recipe.seed), "images, hash": story.parts.ready.table.fingerprint[:16]}
    report.facts({**facts, **runs.versions()})
    report.write(done.out / "report.html")


def finetuned(report: Report, story: Story) -> None:
    """All that is to be said of a fine-tuned run behind its numbers; for the reports of longer journeys, too."""
    done, parts, z = story.done, story.parts, story.features
    test, predictor, p = done.test, done.predictor, done.probabilities["finetuned"]
    guess = predictor.decision.choose(p.double().numpy())
    report.text(start.about(story))
    if story.ladder:
        answers.rungs(report, story.ladder)
    answers.decision(report, predictor.decision.words, done.decided)
    if len(test.table):
        answers.classes(report, guess, test)
        answers.groups(report, guess, test)
        answers.confidence(report, done.probabilities, guess, test)
        pictures(report, predictor, p, guess, test)
    _training(report, story)
    for chapter in story.more:
        chapter(report)
    course.more_labels(report, torch.cat([z["train"], z["val"]]), parts.known.labels, len(test.table.classes))
    data(report, parts.ready.scan)
    if len(test.table):
        found = twins(test, parts.train, z["test"], z["train"])
        twins_chapter(report, found, test, parts.train, (guess == test.table.labels).tolist())
    start.cost(report, story)


def _training(report: Report, story: Story) -> None:
    """Losses and the gap, where one network was trained and validation images were kept from it."""
    done, train = story.done, story.parts.train
    fitted = done.learned[0].fitted
    if fitted is None:
        return
    report.heading("Training")
    seen = course.losses(report, story.curves)
    if story.recipe.refit:
        report.text("What answers has learnt from the validation images, too: no gap to them can be measured.")
        return
    if len(done.learned) > 1:
        report.text("Each network has learnt from other training images: what all have learnt cannot be set apart.")
        return
    some = np.random.default_rng(story.recipe.seed).permutation(len(train.table))[:JUDGED]
    said = done.predictor.probabilities([train.pixels[i] for i in some], quick=True).argmax(1)
    right = float((said == train.labels[some]).float().mean())
    told = float((done.validation["finetuned"].argmax(1) == done.val.labels).float().mean())
    report.text(verdict(Course((right, len(some)), (told, len(done.val.table)), seen, fitted.best_step)))
