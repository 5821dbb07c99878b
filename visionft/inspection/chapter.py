"""The reports of fitting and of teaching: a promise and what it stands on, and what defects changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionft import plots, runs
from visionft.chapters.data import data
from visionft.data.scan import Scan
from visionft.evaluation.ranking import auroc, auroc_interval
from visionft.report import Cell, Report

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
    _looks(report, inspector)
    data(report, scan)
    report.text(f"Backbone: {inspector.panel.backbone.name}, {inspector.panel.backbone.loaded}. Fingerprint of the "
                f"photos: {inspector.learnt['fingerprint']}.")  # fmt: skip
    report.facts({**runs.versions()})
    return report


def taught_report(
    inspector: Inspector, held: Sequence[Verdict], told: Sequence[Verdict], kinds: Sequence[str], scan: Scan
) -> Report:
    """What defects changed: what each eye counts now, how good parts and defects score held out, what is promised."""
    promise, doubt = inspector.promise, inspector.doubt
    photos = f"{len(told):,} defects of {scan.table.source}; {len(held):,} good parts"
    report = Report("Inspector, taught by defects", photos)
    report.text(_first(promise.words()))
    if doubt:
        report.text(_first(doubt.words()))
    scores = {"good parts": promise.scores}
    for kind in sorted(set(kinds)):
        scores[kind] = np.array([one.score for one, own in zip(told, kinds, strict=True) if own == kind])
    report.figure(
        plots.strips(scores, promise.threshold, "threshold", "score"),
        "Scores of good parts and defects, each judged by an inspector that has not learnt from it",
    )
    truth, all_ = np.array([False] * len(held) + [True] * len(told)), [one.score for one in (*held, *told)]
    found, missed = auroc(np.array(all_), truth), [one for one in told if one.passes]
    unsure = [sum(one.unsure for one in some) for some in (told, held)]
    report.facts({
        "AUROC, held out": (found, *auroc_interval(np.array(all_), truth)),
        "defects that would pass as good": f"{len(missed)} of {len(told)}",
        **({"unsure": f"{unsure[0]} defects, {unsure[1]} of {len(held)} good parts"} if doubt else {}),
    })  # fmt: skip
    report.heading("Defects that look most like good parts")
    pairs(report, sorted(told, key=lambda verdict: verdict.score)[:COUNT], "The lowest scores first")
    report.heading("Good parts that look least like the others")
    pairs(report, sorted(held, key=lambda verdict: -verdict.score)[:COUNT], "The highest scores first")
    _looks(report, inspector)
    data(report, scan)
    report.facts({**runs.versions()})
    return report


def _looks(report: Report, inspector: Inspector) -> None:
    """The eyes, and what each counts."""
    report.heading("How it looks")
    report.table(["eye", "scale", "patches by", "weight"], [
        [said(eye), eye.sight.scale, type(eye.scorer).__name__.lower(), weight]
        for eye, weight in zip(inspector.panel.eyes, inspector.panel.weights, strict=True)
    ])  # fmt: skip


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
