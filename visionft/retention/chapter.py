"""The chapter of a report on what was forgotten: before and after, stage by stage, and the way between."""

from __future__ import annotations

from collections.abc import Mapping

from visionft import plots
from visionft.evaluation.forgetting import headline
from visionft.report import Cell, Report

from .forgotten import Forgetting

WORDS = {
    "agreement": "the old classifier says what it said",
    "old_accuracy": "the old classifier is right",
    "knn_accuracy": "kNN on the labels, cross-validated",
    "probe_accuracy": "linear probe on the labels, cross-validated",
    "cka": "CKA of the pooled features",
    "drift": "drift of the pooled features",
}
NOTE = (
    "The whole model, head included, at shares of the way from the start (with a probe's head) to what is saved. A row "
    "is on the front when no other is at least as good in both columns and better in one. Intervals are 95 % bootstrap "
    "over the images; which share to take (keep=wise keep.share=...) is yours to say."
)


def chapter(report: Report, found: Forgetting) -> None:
    """Write it."""
    report.heading("Forgetting")
    report.text(
        f"Judged on {found.judged} retained images of {found.source}; {found.memory} others were there for remedies. "
        "Differences are paired, image by image. CKA is 1 and drift 0 where features are what they were; the old "
        "classifier, where the weights brought one, is put on the new features as it was."
    )
    rows: list[list[Cell]] = [
        [words, found.start[name], _cell(found.saved, name), _cell(found.saved, f"{name}_change")]
        for name, words in WORDS.items() if name in found.saved
    ]  # fmt: skip
    report.table(["", "start", "saved", "change"], rows, "Retained images")
    points = [{"stage": i, "CKA": row["cka"]} for i, row in enumerate(found.stages, 1)]
    report.figure(plots.curves(points, ["CKA"], x="stage", size=(3.6, 1.8)), "CKA by stage, from stem to head")
    report.table(["stage", "CKA", "drift"], [[r["stage"], r["cka"], r["drift"]] for r in found.stages])
    if len(found.sweep) > 1:
        name = headline(found.saved)
        sweep: list[list[Cell]] = [
            [f"{r['share']:g}", _cell(r, "target"), _cell(r, name), r["cka"], r["drift"], "yes" if r["front"] else ""]
            for r in found.sweep
        ]
        task = f"new task ({found.target}, validation)"
        headers = ["share of the way", task, WORDS[name], "CKA", "drift", "on the front"]
        report.table(headers, sweep, "New against old", NOTE)


def _cell(row: Mapping[str, float], name: str) -> Cell:
    if name not in row:
        return None
    return (row[name], row[f"{name}_low"], row[f"{name}_high"]) if f"{name}_low" in row else row[name]
