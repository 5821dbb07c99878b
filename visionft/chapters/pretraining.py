"""The parts of a pretraining report: was it worth it, what was learnt, how training went, is it healthy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from visionft import plots, runs
from visionft.data.scan import Scan
from visionft.log import read_metrics
from visionft.plots import Array
from visionft.report import Cell, Report, sentence

from .data import data

Sheet = tuple[Sequence[tuple[Array, str]], str, int]  # what Report.gallery takes
Map = tuple[Array, float, Array | None, Sequence[str]]  # N 2 points, their share of the variance, labels and classes
Metrics = Mapping[str, float]
HEALTH = ("effective_rank", "projected_effective_rank")
ANSWERS = ("knn_accuracy", "probe_accuracy")
PACE = {"step", "loss", "lr", "images_per_second", "seconds", "seconds_left", "progress"}
SMALL = (2.75, 1.6)  # inches, of the curves that are there for completeness


def pretraining(report: Report, run: Path, verdict: str = "") -> None:
    """Loss, rank, accuracy on labels and whatever else an objective logs, over the steps of a pretraining run."""
    rows = read_metrics(run / "metrics.jsonl")
    losses, ranks = ([r for r in rows if key in r] for key in ("loss", "effective_rank"))
    report.heading("Pretraining")
    if verdict:
        report.text(sentence(verdict))
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
        "95\N{NO-BREAK SPACE}% bootstrap intervals. Half of the labels chose which weights are kept, the other "
        "half is judged here, unless there were too few to halve. Fine-tuning can change the order.",
    )  # fmt: skip


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
    out: Path, scan: Scan, before: Metrics, after: Metrics, *, about: str,
    rows: Mapping[str, Metrics], words: str, sheets: Sequence[Sheet], places: Map,
) -> None:  # fmt: skip
    """The report of a pretraining run; `about` says what was done and how it went, `rows` and `words` its worth."""
    report = Report("Pretraining", str(out))
    report.text(about)
    if rows:
        worth(report, rows, words)
    seen(report, sheets, places)
    pretraining(report, out)
    health(report, before, after)
    data(report, scan)
    report.heading("This run")
    report.facts(runs.versions())
    report.write(out / "report.html")
