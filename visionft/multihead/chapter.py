"""The report of a run of several heads: a table for each, predicted over true numbers, the images that went worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from visionft import chapters, plots, runs
from visionft.arrays import Floats
from visionft.chapters.course import losses
from visionft.data.targets import Classes, Flags, Levels, Number, Target, parts
from visionft.evaluation.worth import Labelled
from visionft.report import Cell, Report

from .answers import answered
from .judge import compared, headline
from .rules import Band
from .run import Tuned

Metrics = Mapping[str, float]
SHOWN = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision", "log_loss"),
    "flags": ("average_precision", "auroc", "f1"),
    "number": ("mae", "rmse", "r2", "spearman", "coverage", "half_width"),
    "levels": ("accuracy", "within_one", "kappa", "mae"),
}
WORST = 8
NOTE = "95 % bootstrap intervals over the test images, which no choice has looked at."


def write(done: Tuned, more: Sequence[Callable[[Report], None]] = ()) -> None:
    """Write report.html into the run's folder; `more` chapters come before how it was trained."""
    report = Report("Fine-tuning", f"{done.out}: {', '.join(target.column for target in done.dealt.targets)}")
    overview(report, done)
    for target in done.dealt.targets:
        head(report, target, done)
    groups(report, done)
    report.heading("Decision")
    report.text("\n\n".join(f"{said[0].upper()}{said[1:]}." for rule in done.predictor.rules.values()
                            for said in rule.words) or "Every head is answered by what is likeliest.")  # fmt: skip
    chapters.data(report, done.dealt.parts.ready.scan)
    for add in more:
        add(report)
    if done.fitted:
        report.heading("Training")
        losses(report, done.curves, done.fitted.best_step)
        if (several := len(done.learned)) > 1:
            report.text(f"The answers are the mean of {several} such networks, each trained without another part of "
                        "the images; this is the first.")  # fmt: skip
        if done.recipe.refit:
            report.text("Then it learnt once more, from the validation images, too, for as many passes as were best.")
    report.heading("This run")
    report.facts(runs.versions())
    report.write(done.out / "report.html")


def overview(report: Report, done: Tuned) -> None:
    """One number a head, for the probe and for the trained network."""
    rows: list[list[Cell]] = []
    for target in done.dealt.targets:
        key = headline(target)
        cells = [_cell(metrics, key) for metrics in done.metrics.values()]
        rows.append([target.column, key.rpartition("/")[2].replace("_", " "), *cells])
    report.table(["", "measure", *done.metrics], rows, "Test images", NOTE)


def groups(report: Report, done: Tuned) -> None:
    """One row a group of test images, one number a head, where there are groups."""
    table = done.dealt.parts.test.table
    if not table.grouped or len(set(table.groups)) < 2:
        return
    keys, count = [compared(target) for target in done.dealt.targets], Counter(table.groups)
    rows: list[list[Cell]] = [
        [group, count[group], *(_cell(done.metrics["finetuned"], f"{key}/{group}") for key in keys)]
        for group in sorted(count)
    ]
    report.heading("By group")
    names = [f"{column}, {name.replace('_', ' ')}" for column, _, name in (key.rpartition("/") for key in keys)]
    report.table(["group", "test images", *names], rows, note="95 % bootstrap intervals; mae is better when lower.")


def head(report: Report, target: Target, done: Tuned) -> None:
    """All numbers of one head, and where it fails."""
    report.heading(target.column)
    if isinstance(target, Flags) and target.listed:
        keys = [f"{target.column}/{name}/{key}" for name in target.names for key in SHOWN["flags"]]
        keys = [f"{target.column}/mean_average_precision", f"{target.column}/mean_f1", *keys]
    else:
        keys = [f"{target.column}/{key}" for key in SHOWN[target.kind]]
    rows: list[list[Cell]] = []
    for key in (key for key in keys if any(key in metrics for metrics in done.metrics.values())):
        name = key.removeprefix(f"{target.column}/").replace("_", " ")
        rows.append([name, *(_cell(metrics, key) for metrics in done.metrics.values())])
    report.table(["", *done.metrics], rows, note=NOTE if rows else "No test image has a value of this column.")
    test = done.dealt.parts.test
    said, values = _of(target, done, done.said["finetuned"], "answers"), _of(target, done, done.dealt.values(test), "")
    known = np.flatnonzero(np.isfinite(values).any(axis=1))
    if isinstance(target, Number) and len(known):
        band = done.predictor.rules[target.column]
        half = band.half if isinstance(band, Band) else None
        figure = plots.against(values[known, 0], said[known, 0], target.column, half)
        report.figure(figure, "Predicted over true on the test images; the band holds the truth as often as promised")
    _worst(report, target, done, test, known[np.argsort(-away(target, said[known], values[known]), kind="stable")])


def away(target: Target, said: Floats, values: Floats) -> Floats:
    """N: how far what is said is from the truth; numbers by their distance, all else by the missing probability."""
    match target:
        case Number():
            far: Floats = np.abs(said - values)[:, 0]
        case Flags():
            far = np.nan_to_num(np.abs(said - values)).max(axis=1)
        case Classes():
            far = 1 - said[np.arange(len(said)), values[:, 0].astype(np.int64)]
        case Levels():
            far = (said * np.abs(np.arange(said.shape[1]) - values)).sum(axis=1)
        case _:
            raise NotImplementedError(target.kind)
    return far


def _worst(report: Report, target: Target, done: Tuned, test: Labelled, places: np.ndarray) -> None:
    if not len(places):
        return
    few = test.table.take(places[:WORST].tolist())
    said = done.said["finetuned"][places[:WORST]]
    answers = answered([Path(record.name).name for record in few], done.dealt.targets, said, done.predictor.rules)
    shown = []
    for at, record, answer in zip(places[:WORST].tolist(), few, answers, strict=True):
        truth = record.row.cells[target.column] if record.row else ""
        words = f"{answer.values[target.column]}, is {truth or 'none'} · {answer.image}"
        shown.append((test.pixels[at][..., :3], words))
    report.gallery(shown, f"Furthest from the truth in {target.column}, of {len(places)} test images")


def _of(target: Target, done: Tuned, numbers: Floats, what: str) -> Floats:
    places = parts(done.dealt.targets, what or "values")
    return numbers[:, places[[one.column for one in done.dealt.targets].index(target.column)]]


def _cell(metrics: Metrics, key: str) -> Cell:
    if key not in metrics:
        return None
    return (metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"]) if f"{key}_low" in metrics else metrics[key]
