"""Advice as an HTML file: the page's own text, the learning curve, and pictures of what it talks about."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visionft import chapters, plots, runs
from visionft.data.prepare import Prepared
from visionft.data.sheet import png, sheet
from visionft.report import Report

from . import page
from .measure import Looked
from .page import Said
from .rules import WORST
from .words import short

EACH, SHOWN = 4, 24  # pictures of a class, and in all
PAIRS = 6
VARIED = 3, 6  # rows and columns of the sheet


def write(out: Path, said: Said, ready: Prepared, looked: Looked) -> Path:
    """Write the report; `out` is an .html file, or a folder that gets a report.html."""
    facts, found = said.facts, said.found
    report = Report("Advice", f"{facts.data.source}: {', '.join(facts.data.classes)}")
    report.heading("Run this")
    report.code(said.commands["finetune"])
    report.text(f"It takes {said.costs.chosen}{page.now(facts)}. {said.choice.why}")
    for words, command in page.beside(said).items():
        report.text(words)
        report.code(command)
    report.heading("What was measured")
    m = facts.measured
    rows = {"always the commonest class": m.chance, "as the most similar pictures (kNN)": m.knn,
            "quick classifier (linear probe)": m.probe}  # fmt: skip
    report.table(["", "right"], [[name, value] for name, value in rows.items()], note=page.basis(facts))
    report.text(f"{page.by_class(facts).capitalize()}.")
    if m.curve:
        report.figure(
            plots.growth({"quick classifier": m.curve}, "labels", "right"), "More labels, more right answers?"
        )
    for level, words in (("act", "Do something about"), ("know", "Good to know")):
        some = [one for one in found if one.level == level]
        if some:
            report.heading(words)
            report.text("\n\n".join(f"{one.what} {one.evidence} {one.do}".strip() for one in some))
    report.heading("Is pretraining on photos without labels worth trying?")
    report.text(f"{said.pretraining.worth.capitalize()}. {said.pretraining.why}")
    for words, command in page.after(said).items():
        report.text(words)
        report.code(command)
    _pictures(report, said, ready, looked)
    chapters.data(report, ready.scan)
    report.heading("This run")
    report.text(page.machine(said))
    report.facts(runs.versions())
    place = out if out.suffix == ".html" else out / "report.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    return report.write(place)


def _pictures(report: Report, said: Said, ready: Prepared, looked: Looked) -> None:
    some, facts = looked.some, said.facts
    report.heading("Pictures")
    shown = []
    for c, name in enumerate(some.table.classes):
        places = np.flatnonzero(some.table.labels == c)
        each = max(1, min(EACH, SHOWN // len(some.table.classes)))
        places = places[np.linspace(0, len(places) - 1, min(each, len(places))).round().astype(int)]
        shown += [(some.pixels[i][..., :3], name) for i in places]
    report.gallery(shown[:SHOWN], "Some of every class")
    at = {record.name: i for i, record in enumerate(ready.table)}
    doubted = [
        (ready.pixels[at[one.name]][..., :3], f"is {one.label}, looks {one.said} · {short(one.name)}")
        for one in facts.measured.suspects[:WORST]
    ]
    if doubted:
        report.gallery(doubted, "Labels that may be wrong")
    pairs = [(ready.pixels[at[name]][..., :3], short(name))
             for pair in facts.data.near[:PAIRS] for name in (pair.first, pair.second)]  # fmt: skip
    if pairs:
        report.gallery(pairs, "Pairs that look like copies", columns=4)
    rows, count = VARIED
    pick = [looked.fine[i] for i in np.linspace(0, len(some.table) - 1, rows).round().astype(int)]
    policy = said.choice.words.get("policy")
    if policy:
        drawn = sheet(pick, policy, size=128, count=count, channels=facts.channels, seed=facts.seed)
        report.figure(png(drawn), f"First column: as they are. Then: as training varies them (policy={policy})")
