"""The report of an evaluation: what an inspector was worth where the truth is known, and what its mistakes cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from visionft import plots
from visionft.annotations.marked import NO_DEFECT
from visionft.evaluation.ranking import roc_curve
from visionft.report import Cell, Report

from .chapter import BUDGETS, COUNT, pairs
from .evaluate import Worth, counted
from .mixed import LEAST, TAUGHT
from .promise import least, percent
from .truth import Truth
from .verbs import Costs
from .verdict import Verdict

if TYPE_CHECKING:
    from .inspector import Inspector


def evaluated_report(
    inspector: Inspector, worth: Worth, verdicts: Sequence[Verdict], truth: Truth, costs: Costs
) -> Report:
    """What escapes and what is rejected needlessly, by kind and group, and the photos that show it."""
    promise, kinds = inspector.promise, truth.kinds
    report = Report("Inspection, evaluated", f"{len(verdicts):,} photos of {truth.table.source}")
    report.text(worth.words(promise))
    if next_step := advice(worth, inspector.defects):
        report.text(next_step)
    scores = {kind: np.array([v.score for v, own in zip(verdicts, kinds, strict=True) if own == kind])
              for kind in sorted(set(kinds), key=lambda kind: kind != NO_DEFECT)}  # fmt: skip
    report.figure(plots.strips(scores, promise.threshold, "threshold", "score"), "Scores of all photos by kind")
    _ranking(report, worth, verdicts, kinds)
    if worth.kinds:
        report.table(["kind of defect", "photos", "found"], [
            [kind, share.of, share.bounded] for kind, share in worth.kinds.items()
        ], "By kind", "Found is what does not pass as good; 95 % Wilson intervals.")  # fmt: skip
    if worth.groups:
        report.table(["group", "defects", "escapes", "good parts", "overkill"], [
            [group, escapes.of, escapes.bounded if escapes.of else None, overkill.of,
             overkill.bounded if overkill.of else None] for group, (escapes, overkill) in worth.groups.items()
        ], "By group", "95 % Wilson intervals.")  # fmt: skip
    _points(report, inspector, worth, verdicts, kinds, costs)
    _galleries(report, verdicts, kinds)
    return report


def advice(worth: Worth, taught: int) -> str:
    """What to do where defects pass an inspector that has been shown few of them; empty otherwise."""
    if not worth.escapes.count or taught >= TAUGHT:
        return ""
    known = f"It has been shown {taught} defects" if taught else "It knows good parts alone"
    return (
        f"{known}: photos of {LEAST} real defects or more, none of them of these, choose how it looks, and from "
        f"{TAUGHT} on teach it (visionft inspect add-defects)."
    )


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


def _points(
    report: Report, inspector: Inspector, worth: Worth, verdicts: Sequence[Verdict], kinds: Sequence[str], costs: Costs
) -> None:
    """Escapes, overkill and, where mistakes have a price, the cost of a part, had another budget been promised."""
    promise, asked = inspector.promise, costs.asked
    scores, defect = np.array([verdict.score for verdict in verdicts]), np.array([kind != NO_DEFECT for kind in kinds])
    points, rows = dict[float, Worth](), list[list[Cell]]()
    for budget in sorted({*BUDGETS, promise.false_reject}):
        if least(budget, promise.confidence) <= len(promise.scores):
            rejected = dataclasses.replace(promise, false_reject=budget).rejects(scores)
            unsure = inspector.unsure(scores, rejected)
            point = points[budget] = dataclasses.replace(worth, **counted(rejected, unsure, defect))
            shares = [share.bounded if share.of else None for share in (point.overkill, point.escapes)]
            mine = " (promised)" if budget == promise.false_reject else ""
            rows.append([f"{percent(budget)}{mine}", *shares, *([point.cost(costs)] if asked else [])])
    note = ("Each as if it had been promised when the inspector was fitted; choosing one by this table makes its "
            "numbers better than they will be.")  # fmt: skip
    if asked and defect.any() and not defect.all():
        report.text(_cheapest(points, promise.false_reject, costs))
        note += " The cost of a part lies in its interval where all shares are at the ends of theirs."
    report.table(["budget", "overkill", "escapes", *(["cost of a part"] if asked else [])], rows, "Other budgets", note)


def _cheapest(points: Mapping[float, Worth], promised: float, costs: Costs) -> str:
    """Which budget costs least, in a sentence."""
    prices = {budget: point.cost(costs)[0] for budget, point in points.items()}
    cheapest, idle = min(prices, key=lambda budget: prices[budget]), costs.prices()[0]
    return (
        f"Where an escape costs {costs.escape:g}, overkill {costs.overkill:g}, a look {costs.look:g}, and "
        f"{percent(costs.defects or 0)} of parts are defective, a part costs {prices[promised]:.3g} as promised, and "
        f"{idle:.3g} without inspection; cheapest on these photos is a budget of {percent(cheapest)}, with "
        f"{prices[cheapest]:.3g}."
    )


def _galleries(report: Report, verdicts: Sequence[Verdict], kinds: Sequence[str]) -> None:
    of = list(zip(verdicts, kinds, strict=True))
    escaped = sorted((v for v, kind in of if kind != NO_DEFECT and v.passes), key=lambda v: v.score)
    unsure = sorted((v for v, _ in of if v.unsure), key=lambda v: -v.score)
    rejected = sorted((v for v, kind in of if kind == NO_DEFECT and v.reject), key=lambda v: -v.score)
    found = sorted((v for v, kind in of if kind != NO_DEFECT and v.reject), key=lambda v: -v.score)
    for name, some in (("Escapes", escaped), ("Overkill", rejected), ("Unsure", unsure), ("Defects found", found)):
        report.heading(name)
        pairs(report, some[:COUNT], f"{min(COUNT, len(some))} of {len(some)}") if some else report.text("None.")
