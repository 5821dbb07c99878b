"""The report of a study: what each start reaches with so many labels, and what self-supervision adds."""

from __future__ import annotations

from pathlib import Path

from visionft import plots, runs
from visionft.evaluation.efficiency import Rows, curve, gains, grouped
from visionft.evaluation.starts import Start
from visionft.report import Cell, Report
from visionft.verbs import Study

TITLES = {"probe": "Linear probe on frozen features", "finetuned": "Fine-tuned"}
ADDED = "What self-supervision adds to its start, in points of accuracy"
PAIRED = "Both answer the same images, so that differences are surer than the bands of the figure look."


def studied_report(recipe: Study, source: str, judged: Rows, words: str) -> None:
    """Write report.html into the study's folder."""
    report = Report("What pretraining is worth", f"{source}: {recipe.seeds} draws of labels, folds: {recipe.folds}")
    report.text(words)
    for answer, title in TITLES.items():
        own = {Start(name): some for (name, kind), some in grouped(judged, "start", "answer").items() if kind == answer}
        if not own:
            continue
        report.heading(title)
        series = {str(start): curve(some) for start, some in own.items()}
        report.figure(plots.growth(series, "labels", "accuracy"), "Accuracy on the same held-out images")
        headers = ["labels", *(str(n) for n, *_ in next(iter(series.values())))]
        rows: list[list[Cell]] = [[name, *(point[1:] for point in points)] for name, points in series.items()]
        note = f"95 % intervals over draws of labels and of test images. {luck(recipe.folds)}"
        report.table(headers, rows, note=note)
        pairs = [(start, some, own[base]) for start, some in own.items()
                 if start.by and (base := Start(start.base)) in own]  # fmt: skip
        added: list[list[Cell]] = [[str(start), *map(_points, gains(some, base))] for start, some, base in pairs]
        if added:
            report.table(headers, added, ADDED, PAIRED)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(Path(recipe.out) / "report.html")


def _points(gain: tuple[int, float, float, float]) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * bound for bound in gain[1:]))


def luck(folds: int) -> str:
    """What intervals do not hold: another pretraining gives other features."""
    if folds == 1:
        return "Each start was pretrained once, and intervals do not hold that luck: folds=4 pretrains four times."
    return f"Each start was pretrained {folds} times, for other test images each."
