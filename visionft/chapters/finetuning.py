"""The report of a fine-tuning run: the answer, who is served worse, where it fails, how it came about, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from visionft import runs
from visionft.evaluation.gap import Course, verdict
from visionft.evaluation.twins import twins
from visionft.report import Report

from . import answers, course, start
from .data import data
from .data import twins as twins_chapter
from .pictures import pictures

if TYPE_CHECKING:
    from visionft.tasks.measure import Finetuned

Chapter = Callable[[Report], None]
Rows = Sequence[Mapping[str, Any]]  # of the ladder
JUDGED = 512  # training images that the gap is measured on: enough for an interval of +-4 points


def finetuning_report(done: Finetuned, *, ladder: Rows = (), more: Sequence[Chapter] = ()) -> None:
    """Write report.html into the folder of the run: of a ladder, the rungs, too; `more` chapters before the data."""
    test = done.test
    report = Report("Fine-tuning", f"{done.out}: {', '.join(test.table.classes)}")
    if len(test.table):
        report.text(answers.gain(done.probabilities, test, done.guess))
        groups = sorted(set(test.table.groups)) if test.table.grouped and len(test.table.classes) == 2 else []
        note = "95 % bootstrap intervals over the test images, which no choice has looked at."
        answers.stages(report, done.metrics, groups, note)
    else:
        report.text("No image was held out for a test (test=0), so this says nothing of how good the answers are.")
    finetuned(report, done, ladder=ladder, more=more)
    report.heading("This run")
    facts = {"seed": str(done.recipe.seed), "images, hash": done.parts.ready.table.fingerprint[:16]}
    report.facts({**facts, **runs.versions()})
    report.write(done.out / "report.html")


def finetuned(report: Report, done: Finetuned, *, ladder: Rows = (), more: Sequence[Chapter] = ()) -> None:
    """All that is to be said of a fine-tuned run behind its numbers; for the reports of longer journeys, too."""
    parts, z = done.parts, done.features
    test, predictor, p = done.test, done.predictor, done.probabilities["finetuned"]
    guess = done.guess
    report.text(start.about(done))
    if ladder:
        answers.rungs(report, ladder)
    answers.decision(report, predictor.decision.words, done.decided)
    if len(test.table):
        answers.classes(report, guess, test)
        answers.groups(report, guess, test)
        answers.confidence(report, done.probabilities, guess, test)
        pictures(report, predictor, p, guess, test)
    _training(report, done)
    for chapter in more:
        chapter(report)
    known, features = parts.known, torch.cat([z["train"], z["val"]])
    course.more_labels(report, features, known.labels, len(test.table.classes), parts.groups(known))
    data(report, parts.ready.scan)
    if len(test.table):
        found = twins(test, parts.train, z["test"], z["train"])
        twins_chapter(report, found, test, parts.train, (guess == test.table.labels).tolist())
    start.cost(report, done)


def _training(report: Report, done: Finetuned) -> None:
    """Losses and the gap, where one network was trained and validation images were kept from it."""
    fitted, train = done.fitted, done.parts.train
    if fitted is None:
        return
    report.heading("Training")
    seen = course.losses(report, done.curves, fitted.best_step)
    if done.recipe.refit:
        report.text("What answers has learnt from the validation images, too: no gap to them can be measured.")
        return
    if len(done.learned) > 1:
        report.text("Each network has learnt from other training images: what all have learnt cannot be set apart.")
        return
    some = np.random.default_rng(done.recipe.seed).permutation(len(train.table))[:JUDGED]
    said = done.predictor.probabilities([train.pixels[i] for i in some], quick=True).argmax(1)
    right = float((said == train.labels[some]).float().mean())
    told = float((done.validation["finetuned"].argmax(1) == done.val.labels).float().mean())
    report.text(verdict(Course((right, len(some)), (told, len(done.val.table)), seen, fitted.best_step)))
