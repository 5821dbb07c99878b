"""What labelled defects change in an inspector: how it looks, what it rejects, and what it is unsure of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visionft import config, runs
from visionft.data.cache import cached
from visionft.data.prepare import prepare
from visionft.errors import DataError
from visionft.log import Console

from . import mixed
from .chapter import taught_report
from .cheapest import cheapest
from .doubt import Doubt, enough
from .learn import FOLDS, standing
from .once import known, once, signed
from .promise import Promise, check, percent
from .truth import read_defects
from .verbs import AddDefects, InspectFit

if TYPE_CHECKING:
    from .inspector import Inspector


def teach(inspector: Inspector, recipe: AddDefects, console: Console) -> None:
    """Fit an inspector to its good photos again, and to these defects; what it promises is made anew."""
    source, images, bad = recipe.good, inspector.images, recipe.bad
    if source is None:  # where they were; files that were left out then are left out again
        source, bad = inspector.learnt.get("data"), "skip" if inspector.learnt.get("bad") else bad
    if source is None:
        raise DataError("the good photos are needed again: say good=...")
    ready = once(
        prepare(config.load(InspectFit, {"data": source, "bad": bad, **images}), console, labelled=False), console
    )
    found = read_defects(recipe.data, images=images, bad=recipe.bad, console=console)
    rate, confidence = inspector.promise.false_reject, inspector.promise.confidence
    if both := known(found.table, signed(ready.table)):
        raise DataError(f"{len(both)} photos of defects are among the good ones, the first is {both[0]}")
    check(len(ready.table), rate, confidence)
    mixed.check(len(found.table))
    if recipe.false_accept is not None:
        enough(len(found.table), recipe.false_accept)
    if recipe.out:
        runs.begin(Path(recipe.out), recipe, found.table.fingerprint)

    defects, folds = cached(found.table, **images, store="off"), min(FOLDS, len(ready.table))
    candidates = mixed.Candidates.of(inspector.panel, ready.pixels, folds, console)
    inspector.panel, inspector.held, told = candidates.taught(defects, console)
    good, defective = ([seen.score for seen in some] for some in (inspector.held, told))
    if recipe.costs.asked:
        rate = cheapest(Promise.of(good, rate, confidence), defective, recipe.costs).false_reject
    inspector.promise, inspector.scale, inspector.signs = standing(inspector.held, ready.pixels, rate, confidence)
    console.say(inspector.promise.words())
    inspector.doubt = None
    if recipe.false_accept is not None:
        inspector.doubt = Doubt.of(defective, found.kinds, recipe.false_accept, by_kind=recipe.by_kind)
        share = inspector.unsure(good, inspector.promise.rejects(good)).mean()
        console.say(f"{inspector.doubt.words()}, as {percent(share)} of the good photos here would be")
    inspector.learnt = {**inspector.learnt, **ready.facts(), "count": len(ready.table), "defects": len(found.table),
                        "fingerprint_of_defects": found.table.fingerprint, "photos": signed(ready.table),
                        "photos_of_defects": signed(found.table)}  # fmt: skip

    if recipe.out and recipe.report:
        held = inspector.verdicts(inspector.held, [record.name for record in ready.table], ready.pixels)
        verdicts = inspector.verdicts(told, [record.name for record in found.table], defects)
        taught_report(inspector, held, verdicts, found.kinds, found.scan).write(Path(recipe.out) / "report.html")
    if recipe.out:
        inspector.save(recipe.out)
