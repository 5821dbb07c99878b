"""The parts that reports are made of: the data, how training went, how good the answers are, where they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from . import plots, runs
from .data.scan import Scan
from .evaluation.classification import confusion
from .evaluation.ranking import roc_curve
from .evaluation.worth import Labelled
from .log import read_metrics
from .report import Cell, Report

Metrics = Mapping[str, float]
HEALTH = ("effective_rank", "projected_effective_rank")


def data(report: Report, scan: Scan) -> None:
    """What the scan found."""
    report.heading("Data")
    report.text("\n\n".join(scan.lines()))


def pretraining(report: Report, run: Path, verdict: str) -> None:
    """Loss and rank over the steps of a pretraining run."""
    rows = read_metrics(run / "metrics.jsonl")
    report.heading("Pretraining")
    report.text(verdict)
    report.figure(plots.curves([r for r in rows if "loss" in r], ["loss"]), "Loss; it says little about quality")
    ranks = [r for r in rows if "effective_rank" in r]
    if len(ranks) > 1:
        report.figure(plots.curves(ranks, HEALTH), "Effective rank of features and projections on held-out images")


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
    """Every measure of the representation, at the start and as it was saved."""
    names = [name for name in after if name in before]
    rows: list[list[Cell]] = [[name.replace("_", " "), before[name], after[name]] for name in names]
    report.table(["", "start", "saved"], rows, "On held-out images, and on labels where there are some")


def pretraining_report(out: Path, scan: Scan, verdict: str, before: Metrics, after: Metrics) -> None:
    """The report of a pretraining run."""
    report = Report("Pretraining", str(out))
    health(report, before, after)
    data(report, scan)
    pretraining(report, out, verdict)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")


def finetuning_report(
    out: Path, scan: Scan, metrics: Mapping[str, Metrics], probabilities: Mapping[str, Tensor], test: Labelled
) -> None:
    """The report of a fine-tuning run."""
    report = Report("Fine-tuning", f"{out}: {', '.join(test.table.classes)}")
    groups = sorted(set(test.table.groups)) if test.table.grouped and len(test.table.classes) == 2 else []
    stages(report, metrics, groups, "95 % bootstrap intervals over the test images, which no choice has looked at.")
    data(report, scan)
    finetuning(report, out)
    answers(report, probabilities, test)
    mistakes(report, list(probabilities.values())[-1], test)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")
