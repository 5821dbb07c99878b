"""The reports of inspection: a promise and what it stands on; what it was worth where the truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionft import plots, runs
from visionft.annotations.marked import NO_DEFECT
from visionft.chapters.data import data
from visionft.data.scan import Scan
from visionft.evaluation.ranking import roc_curve
from visionft.report import Cell, Report

from .evaluate import Worth
from .eyes import said
from .promise import Promise, least, percent
from .verdict import Verdict
from .where import shown

if TYPE_CHECKING:
    from .inspector import Inspector

COUNT = 8  # photos of a gallery, each with its overlay
BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # false-reject rates that are compared


def fitted_report(inspector: Inspector, held: Sequence[Verdict], scan: Scan) -> Report:
    """What was learnt from good parts, what is promised, and which of them look least like the others."""
    promise = inspector.promise
    report = Report("Inspector", f"{len(held):,} good parts of {inspector.learnt['source']}")
    report.text(_first(promise.words()))
    report.figure(
        plots.strips({"good parts, held out": promise.scores}, promise.threshold, "threshold", "score"),
        "Scores of good parts, each judged by an inspector that has not learnt from it",
    )
    report.heading("What could be promised")
    report.table(
        ["budget", "threshold", "rejects less than, with 95 % confidence"], list(_budgets(promise)),
        note="A budget is the share of good parts that may be rejected. The threshold rejects at most that share, on "
        "average over sets of good parts; that very threshold rejects less than the last column. More good photos "
        "bring both together.",
    )  # fmt: skip
    _odd(report, inspector, held)
    report.heading("How it looks")
    report.table(["eye", "scale", "patches by", "weight"], [
        [said(eye), eye.sight.scale, type(eye.scorer).__name__.lower(), weight]
        for eye, weight in zip(inspector.panel.eyes, inspector.panel.weights, strict=True)
    ])  # fmt: skip
    data(report, scan)
    report.text(f"Backbone: {inspector.panel.backbone.name}, {inspector.panel.backbone.loaded}. Fingerprint of the "
                f"photos: {inspector.learnt['fingerprint']}.")  # fmt: skip
    report.facts({**runs.versions()})
    return report


def _odd(report: Report, inspector: Inspector, held: Sequence[Verdict]) -> None:
    """The good parts with the highest scores, suspects first."""
    names = inspector.learnt["suspects"]
    report.heading("Good parts that look least like the others")
    if names:
        how = "It has not learnt from them" if inspector.learnt["dropped"] else "It has learnt from them nevertheless"
        report.text(f"{len(names)} stand out: {', '.join(names[:20])}. {how}. If they show defects, take them away and "
                    "fit again: a defect among good parts hides its like.")  # fmt: skip
    else:
        report.text("None stands out.")
    pairs(report, sorted(held, key=lambda verdict: -verdict.score)[:COUNT], "The highest scores first")


def evaluated_report(
    worth: Worth, promise: Promise, verdicts: Sequence[Verdict], kinds: Sequence[str], source: str
) -> Report:
    """What escapes and what is rejected needlessly, by kind and group, and the photos that show it."""
    report = Report("Inspection, evaluated", f"{len(verdicts):,} photos of {source}")
    report.text(worth.words(promise))
    scores = {kind: np.array([v.score for v, own in zip(verdicts, kinds, strict=True) if own == kind])
              for kind in sorted(set(kinds), key=lambda kind: kind != NO_DEFECT)}  # fmt: skip
    report.figure(plots.strips(scores, promise.threshold, "threshold", "score"), "Scores of all photos by kind")
    _ranking(report, worth, verdicts, kinds)
    if worth.kinds:
        report.table(["kind of defect", "photos", "found"], [
            [kind, share.of, share.bounded] for kind, share in worth.kinds.items()
        ], "By kind", "95 % Wilson intervals.")  # fmt: skip
    if worth.groups:
        report.table(["group", "defects", "escapes", "good parts", "overkill"], [
            [group, escapes.of, escapes.bounded if escapes.of else None, overkill.of,
             overkill.bounded if overkill.of else None] for group, (escapes, overkill) in worth.groups.items()
        ], "By group", "95 % Wilson intervals.")  # fmt: skip
    _points(report, promise, verdicts, kinds)
    _galleries(report, verdicts, kinds)
    return report


def _ranking(report: Report, worth: Worth, verdicts: Sequence[Verdict], kinds: Sequence[str]) -> None:
    """How well scores and maps tell defects apart, whatever the threshold."""
    if worth.auroc is None:
        report.text("Without both good parts and defects, nothing can be said of the ranking.")
        return
    scores, truth = np.array([v.score for v in verdicts]), np.array([kind != NO_DEFECT for kind in kinds], int)
    fpr, tpr, _ = roc_curve(scores, truth)
    report.figure(plots.roc({"inspector": (fpr, tpr, worth.auroc[0])}), "ROC of the photos; positive is a defect")
    named = {"AUROC": worth.auroc, "average precision": worth.average_precision, "pixel AUROC": worth.pixel_auroc,
             "AUPRO": worth.aupro}  # fmt: skip
    report.facts({name: value for name, value in named.items() if value is not None})


def _points(report: Report, promise: Promise, verdicts: Sequence[Verdict], kinds: Sequence[str]) -> None:
    """Escapes and overkill had another budget been promised."""
    defect = np.array([kind != NO_DEFECT for kind in kinds])
    scores, rows = [verdict.score for verdict in verdicts], list[list[Cell]]()
    for budget in BUDGETS:
        if least(budget, promise.confidence) <= len(promise.scores):
            rejects = dataclasses.replace(promise, false_reject=budget).rejects(scores)
            overkill = float(rejects[~defect].mean()) if (~defect).any() else None
            rows.append([percent(budget), overkill, float((~rejects[defect]).mean()) if defect.any() else None])
    report.table(["budget", "overkill", "escapes"], rows, "Other budgets",
                 "Each as if it had been promised when the inspector was fitted; choosing one by this table makes its "
                 "numbers better than they will be.")  # fmt: skip


def _galleries(report: Report, verdicts: Sequence[Verdict], kinds: Sequence[str]) -> None:
    of = list(zip(verdicts, kinds, strict=True))
    escaped = sorted((v for v, kind in of if kind != NO_DEFECT and not v.reject), key=lambda v: v.score)
    rejected = sorted((v for v, kind in of if kind == NO_DEFECT and v.reject), key=lambda v: -v.score)
    found = sorted((v for v, kind in of if kind != NO_DEFECT and v.reject), key=lambda v: -v.score)
    for name, some in (("Escapes", escaped), ("Overkill", rejected), ("Defects found", found)):
        report.heading(name)
        pairs(report, some[:COUNT], f"{min(COUNT, len(some))} of {len(some)}") if some else report.text("None.")


def pairs(report: Report, verdicts: Sequence[Verdict], caption: str) -> None:
    """Photos, each beside itself under the heat of what is unlike good parts."""
    pictures = []
    for verdict in verdicts:
        pictures += [(shown(verdict.pixels), Path(verdict.image).name), (verdict.overlay, f"p = {verdict.p_value:.3g}")]
    how = "Right of each: colours mean the same in all photos; outlined is what goes beyond what good parts reach."
    report.gallery(pictures, f"{caption}. {how}", 6 if len(pictures) > 4 else 4)


def _budgets(promise: Promise) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for budget in sorted({*BUDGETS, promise.false_reject}):
        if (takes := least(budget, promise.confidence)) > len(promise.scores):
            rows.append([percent(budget), f"takes {takes:,} good photos", None])
            continue
        other = dataclasses.replace(promise, false_reject=budget)
        mine = " (promised)" if budget == promise.false_reject else ""
        rows.append([f"{percent(budget)}{mine}", f"{other.threshold:.4g}", other.bound])
    return rows


def _first(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
