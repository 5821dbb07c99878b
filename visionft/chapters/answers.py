"""How good are the answers: by stage, as decided, by class and by group, and may the probabilities be believed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from visionft import plots
from visionft.arrays import Floats, Ints
from visionft.evaluation.bootstrap import crossed
from visionft.evaluation.breakdown import Unevenness, by_class, by_group, unevenness
from visionft.evaluation.intervals import wilson
from visionft.evaluation.ranking import auroc, roc_curve
from visionft.evaluation.worth import Labelled
from visionft.report import Cell, Report

Metrics = Mapping[str, float]
DECIDED = ("accuracy", "balanced_accuracy", "coverage", "sure", "accuracy_when_sure")
ROWS = 30  # of a table that someone still reads


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


def gain(probabilities: Mapping[str, Tensor], test: Labelled, guess: Ints | None = None) -> str:
    """The answer in one paragraph: how often the last stage is right, and whether it beats the first, the floor.

    `guess` (N) are the answers that the last stage gives, if these are not always the likeliest classes.
    """
    (floor, base), (_, last) = (list(probabilities.items())[i] for i in (0, -1))
    right, before = ((p.argmax(1) == test.labels).double().numpy() for p in (last, base))
    told = right if guess is None else (guess == test.table.labels).astype(np.float64)
    accuracy, low, high = crossed(told[None])
    said = (
        f"Of the {len(told):,} test images {accuracy:.1%} are told right (95 % interval {low:.1%} to {high:.1%}); "
        f"always saying the commonest class would be right for {_commonest(test):.1%}."
    )
    if not np.array_equal(told, right):
        said += f" Answers are chosen for balanced accuracy; the likeliest class would be right for {right.mean():.1%}."
    if len(probabilities) < 2 or (last is base):
        return said
    change = tuple(100 * value for value in crossed((right - before)[None]))
    proof = "a proven gain" if change[1] > 0 else "a proven loss" if change[2] < 0 else "no proven difference"
    return (
        f"{said} Compared with the {floor} on frozen features, image by image, that is {change[0]:+.1f} points "
        f"({change[1]:+.1f} to {change[2]:+.1f}): {proof}."
    )


def _commonest(test: Labelled) -> float:
    return float(np.bincount(test.table.labels).max() / len(test.table))


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


def classes(report: Report, guess: Ints, test: Labelled) -> None:
    """One row a class: how many, recall, precision and F1 with intervals; of many classes those of least recall."""
    rows = by_class(guess, test.table.labels, test.table.classes)
    shown = rows if len(rows) <= ROWS else sorted(rows, key=lambda row: row.recall[0] if row.recall else 2)[:ROWS]
    report.heading("By class")
    report.table(
        ["class", "test images", "called so", "recall", "precision", "F1"],
        [[row.name, row.truth, row.said, row.recall, row.precision, row.f1] for row in shown],
        f"The {ROWS} of {len(rows)} classes with the lowest recall" if shown is not rows else "",
        "Recall: the share of a class that is called so. Precision: the share of what is called so that is. 95 % "
        "intervals, of F1 by bootstrap.",
    )


def groups(report: Report, guess: Ints, test: Labelled) -> None:
    """One row a group, the worst in a sentence, and whether they differ by more than chance, where there are groups."""
    if not test.table.grouped or len(set(test.table.groups)) < 2:
        return
    named, labels, own = test.table.classes, test.table.labels, test.table.groups
    positive = 1 if len(named) == 2 else None
    rows = sorted(by_group(guess, labels, own, positive=positive), key=lambda row: row.accuracy[0])
    headers = ["group", "test images", "accuracy", *([named[1], f"recall, {named[1]}"] if positive else [])]
    table: list[list[Cell]] = [[row.name, row.images, row.accuracy, *([row.positives, row.recall] if positive else [])]
             for row in rows[:ROWS]]  # fmt: skip
    right = (guess == labels).astype(np.float64)
    report.heading("By group")
    report.text(_worst("accuracy", right, own))
    if positive:
        of = labels == positive
        report.text(
            _worst(f"recall of {named[1]}", right[of], [group for group, hit in zip(own, of, strict=True) if hit])
        )
    few = f"The {ROWS} of {len(rows)} groups with the lowest accuracy" if len(rows) > ROWS else ""
    report.table(headers, table, few, "95 % Wilson intervals, the worst group first. `visionft rebalance` refits "
                 "the last layer so that all groups count alike.")  # fmt: skip


def _worst(what: str, hits: Floats, own: Sequence[str]) -> str:
    found: Unevenness | None = unevenness(hits, own)
    if found is None:
        return f"The {what} cannot be compared: the images are of one group."
    if not found.gap:
        return f"By {what}: all groups are alike, {hits.mean():.3f} of {len(hits)}."
    said = "; ".join(
        f"{word} {group}, {_bounded(inside)} of {len(inside)}"
        for word, group in (("worst", found.worst), ("best", found.best))
        for inside in (hits[np.asarray(own) == group],)
    )
    rare = "less than 0.1 %" if found.chance < 0.001 else f"{found.chance:.1%}".replace("%", " %")
    verdict = "Chance hardly explains that." if found.proven else "Chance alone may explain that."
    return (
        f"By {what}: {said}. Shuffling the groups among the images sets two of them as far apart in {rare} of all "
        f"shuffles. {verdict}"
    )


def _bounded(hits: Floats) -> str:
    low, high = wilson(float(hits.mean()), len(hits))
    return f"{hits.mean():.3f} ({low:.3f} to {high:.3f})"


def confidence(report: Report, probabilities: Mapping[str, Tensor], guess: Ints, test: Labelled) -> None:
    """Confusion of the answers, ROC of the floor and the last stage (two classes), and reliability."""
    name, last = list(probabilities.items())[-1]
    labels, named = test.labels, test.table.classes
    matrix = np.zeros((len(named), len(named)), dtype=np.int64)
    np.add.at(matrix, (test.table.labels, guess), 1)
    report.heading("Answers and how sure they are")
    report.figure(plots.confusion(matrix, named), f"Confusion, {name}")
    if len(named) == 2 and 0 < int(labels.sum()) < len(labels):
        curves = {}
        for stage in dict.fromkeys(["probe", name]):  # the floor and the last: more is a tangle
            p = probabilities[stage]
            fpr, tpr, _ = roc_curve(p[:, 1], labels)
            curves[stage] = (fpr, tpr, auroc(p[:, 1], labels))
        report.figure(plots.roc(curves), f"ROC on the test images; positive is {named[1]}")
    report.figure(plots.reliability(last, labels), "Reliability: is a probability of 0.8 right eight times in ten?")
