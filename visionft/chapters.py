"""The parts that reports are made of: the data, how training went, how good the answers are, where they fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from . import plots, runs
from .data.scan import Scan
from .evaluation.classification import confusion
from .evaluation.ranking import roc_curve
from .evaluation.worth import Labelled
from .log import read_metrics
from .plots import Array
from .report import Cell, Report

Sheet = tuple[Sequence[tuple[Array, str]], str, int]  # what Report.gallery takes
Map = tuple[Array, float, Array | None, Sequence[str]]  # N 2 points, their share of the variance, labels and classes
Metrics = Mapping[str, float]
HEALTH = ("effective_rank", "projected_effective_rank")
ANSWERS = ("knn_accuracy", "probe_accuracy")
DECIDED = ("accuracy", "balanced_accuracy", "coverage", "sure", "accuracy_when_sure")
PACE = {"step", "loss", "lr", "images_per_second", "seconds", "seconds_left", "progress"}
SMALL = (2.75, 1.6)  # inches, of the curves that are there for completeness


def data(report: Report, scan: Scan) -> None:
    """What the scan found."""
    report.heading("Data")
    report.text("\n\n".join(scan.lines()))


def pretraining(report: Report, run: Path, verdict: str) -> None:
    """Loss, rank, accuracy on labels and whatever else an objective logs, over the steps of a pretraining run."""
    rows = read_metrics(run / "metrics.jsonl")
    losses, ranks = ([r for r in rows if key in r] for key in ("loss", "effective_rank"))
    report.heading("Pretraining")
    report.text(verdict)
    report.figure(plots.curves(losses, ["loss"]), "Loss; it says little about quality")
    if len(ranks) > 1:
        report.figure(plots.curves(ranks, HEALTH), "Effective rank of features and projections on held-out images")
    if len(ranks) > 1 and all(key in ranks[-1] for key in ANSWERS):
        report.figure(plots.curves(ranks, ANSWERS), "kNN and linear probe on the labelled images, cross-validated")
    for name in dict.fromkeys(key for row in losses for key in row if key not in PACE):
        report.figure(plots.curves(losses, [name], size=SMALL), name.replace("_", " "))


def worth(report: Report, rows: Mapping[str, Metrics], words: str) -> None:
    """Random, ImageNet and pretrained weights on the same labelled images, and what that means."""
    report.heading("Is it worth it?")
    report.text(words)
    report.table(
        ["weights", "linear probe", "kNN", "log-loss of the probe"],
        [[name, *((m[k], m[f"{k}_low"], m[f"{k}_high"]) for k in reversed(ANSWERS)), m["probe_log_loss"]]
         for name, m in rows.items()],
        note="Accuracy of frozen features on the labelled images, each of them held out once (cross-validated), with "
        "95\N{NO-BREAK SPACE}% bootstrap intervals. Which weights were kept was chosen on these labels too, which "
        "flatters the last rows a little; and fine-tuning can change the order.",
    )  # fmt: skip


def finetuning(report: Report, run: Path) -> None:
    """Training and validation loss over the steps of a fine-tuning run."""
    rows = read_metrics(run / "metrics.jsonl")
    merged = [{"step": r["step"], **{n: r[k] for n, k in (("training", "loss"), ("validation", "log_loss")) if k in r}}
              for r in rows]  # fmt: skip
    if any("training" in r for r in merged):
        report.heading("Fine-tuning")
        report.figure(plots.curves(merged, ["training", "validation"]), "Loss; the best validation step was kept")


def stages(report: Report, named: Mapping[str, Metrics], groups: Sequence[str], note: str) -> None:
    """One row a stage, on the same test images: accuracy and AUROC with 95 % intervals, recall by group."""
    binary = all("auroc" in m for m in named.values())
    headers = ["", "accuracy", *(["AUROC"] if binary else []), "balanced", *(f"recall, {g}" for g in groups)]
    rows = []
    for name, m in named.items():
        auroc = [(m["auroc"], m["auroc_low"], m["auroc_high"])] if binary else []
        accuracy = (m["accuracy"], m["accuracy_low"], m["accuracy_high"])
        rows.append([name, accuracy, *auroc, m["balanced_accuracy"], *(m.get(f"recall/{g}") for g in groups)])
    report.table(headers, rows, "Test images", note)


def answers(report: Report, probabilities: Mapping[str, Tensor], test: Labelled) -> None:
    """Confusion of the last stage, ROC of all of them (two classes), and reliability."""
    last = list(probabilities.values())[-1]
    labels, classes = test.labels, test.table.classes
    report.heading("Answers")
    report.figure(plots.confusion(confusion(last, labels), classes), f"Confusion, {list(probabilities)[-1]}")
    if len(classes) == 2:
        curves = {}
        for name in dict.fromkeys(["probe", *list(probabilities)[-1:]]):  # the floor and the last: more is a tangle
            p = probabilities[name]
            fpr, tpr, _ = roc_curve(p[:, 1], labels)
            curves[name] = (fpr, tpr, float(np.trapezoid(tpr, fpr)))
        report.figure(plots.roc(curves), "ROC on the test images")
    report.figure(plots.reliability(last, labels), "Reliability: is a probability of 0.8 right eight times in ten?")


def mistakes(report: Report, probabilities: Tensor, test: Labelled, count: int = 12) -> None:
    """The wrong answers that were given with most confidence, as pictures."""
    confidence, guess = probabilities.max(1)
    wrong = (guess != test.labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True)][:count].tolist()
    classes = test.table.classes
    pictures = []
    for i in worst:
        said = f"{classes[int(guess[i])]} {float(confidence[i]):.2f}, is {classes[int(test.labels[i])]}"
        pictures.append((test.pixels[i][..., :3], f"{said} · {Path(test.table[i].name).name}"))
    report.heading("Worst mistakes")
    if pictures:
        report.gallery(pictures, f"{len(worst)} of {len(wrong)} wrong answers, the most confident first")
    else:
        report.text("There are none on these test images.")


def health(report: Report, before: Metrics, after: Metrics) -> None:
    """Every label-free measure of the representation, at the start and as it was saved."""
    names = [name for name in after if name in before and name not in (*ANSWERS, "probe_log_loss")]
    rows: list[list[Cell]] = [[name.replace("_", " "), before[name], after[name]] for name in names]
    report.heading("Health")
    report.table(["", "start", "saved"], rows, "Held-out images")


def seen(report: Report, sheets: Sequence[Sheet], places: Map) -> None:
    """Pictures of what was learnt, and a map of the embeddings."""
    report.heading("What it has learnt")
    for sheet in sheets:
        report.gallery(*sheet)
    points, share, labels, classes = places
    what = "a labelled image" if classes else "an image"
    caption = f"Each dot is {what}; these two directions hold {share:.0%} of the variance of the features (PCA)"
    report.figure(plots.scatter(points, labels, classes), caption)


def pretraining_report(
    out: Path, scan: Scan, verdict: str, before: Metrics, after: Metrics, *, about: str,
    rows: Mapping[str, Metrics], words: str, sheets: Sequence[Sheet], places: Map,
) -> None:  # fmt: skip
    """The report of a pretraining run; `about` says what was done, `rows` and `words` whether it was worth it."""
    report = Report("Pretraining", str(out))
    report.text(about)
    if rows:
        worth(report, rows, words)
    seen(report, sheets, places)
    pretraining(report, out, verdict)
    health(report, before, after)
    data(report, scan)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")


def rungs(report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
    """Every rung of the ladder that was tried: cost, loss on validation images, gain over the best before, test."""
    report.heading("The ladder")
    report.table(
        ["", "minutes", "log-loss, validation", "gain over the best before", "accuracy, test", "log-loss, test", ""],
        [[row["rung"], row["minutes"], row["loss"], row["gain"] and tuple(row["gain"]), tuple(row["accuracy"]) or None,
          row["test_loss"], "chosen" if row["chosen"] else ""] for row in rows],
        note="The next rung is tried as long as the last one beats the best before it by more than its 95 % interval "
        "on validation images; the lowest loss on them is chosen. The test images had no part in it.",
    )  # fmt: skip


def decision(report: Report, words: Sequence[str], decided: Metrics) -> None:
    """How probabilities are answered, and what those answers are worth on the test images."""
    report.heading("Decision")
    report.text("\n\n".join(f"{said[0].upper()}{said[1:]}." for said in words))
    rows: list[list[Cell]] = [[name.replace("_", " "), (decided[name], decided[f"{name}_low"], decided[f"{name}_high"])]
            for name in DECIDED if name in decided]  # fmt: skip
    if rows:
        report.table(["", "share"], rows, "Answers to the test images", "Fitted on validation images, not on these.")


def finetuning_report(
    out: Path, scan: Scan, metrics: Mapping[str, Metrics], probabilities: Mapping[str, Tensor], test: Labelled,
    *, curves: Path, decided: tuple[Sequence[str], Metrics], ladder: Sequence[Mapping[str, Any]] = (),
    more: Sequence[Callable[[Report], None]] = (),
) -> None:  # fmt: skip
    """The report of a fine-tuning run; `curves` is the folder of the network whose training is drawn.

    `more` chapters come after the mistakes.
    """
    report = Report("Fine-tuning", f"{out}: {', '.join(test.table.classes)}")
    groups = sorted(set(test.table.groups)) if test.table.grouped and len(test.table.classes) == 2 else []
    if tested := len(test.table) > 0:
        stages(report, metrics, groups, "95 % bootstrap intervals over the test images, which no choice has looked at.")
    else:
        report.text("No image was held out for a test (test=0), so this says nothing of how good the answers are.")
    if ladder:
        rungs(report, ladder)
    decision(report, *decided)
    data(report, scan)
    finetuning(report, curves)
    if tested:
        answers(report, probabilities, test)
        mistakes(report, list(probabilities.values())[-1], test)
    for chapter in more:
        chapter(report)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")
