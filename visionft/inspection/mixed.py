"""What labelled defects add: they weigh the eyes and teach a head; what good parts are like stays the base."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionft.arrays import Floats, Ints
from visionft.errors import DataError
from visionft.log import Console

from .eye import Eye, Seen
from .eyes import OFFERED, eye
from .frame import Framed
from .head import Head
from .looking import Progress, feed, held_out, learn
from .panel import Calm, Panel
from .sight import Sight
from .weights import chosen

LEAST = 6  # defects by which anything may be chosen
TAUGHT = 10  # defects from which a head learns
COUNTS = 0.02  # of all weights: an eye that counts less is left out, to save its time
HEAD = Sight(layers=(-3, -2, -1), pool=1)


@dataclass(frozen=True)
class Candidates:
    """All eyes that defects may choose from, fitted to good photos, and what these look like to them, held out."""

    panel: Panel  # as it is without defects
    eyes: Sequence[Eye]
    prior: Sequence[float]  # what each eye counts without defects, and last a head
    parts: Framed
    folds: int
    held: Sequence[Sequence[Seen]]
    head: Eye  # has been told of the good photos alone

    @classmethod
    def of(cls, panel: Panel, good: Sequence[np.ndarray], folds: int, console: Console) -> Candidates:
        """Fit the eyes of a panel anew, and others beside them."""
        weight = {json.dumps(eye.facts()): weight for eye, weight in zip(panel.eyes, panel.weights, strict=True)}
        known = [eye for eye in panel.eyes if not eye.scorer.learns_defects]
        scale = panel.eyes[0].sight.scale
        offered = [eye(name, scale) for name in OFFERED]
        others = [one for one in offered if json.dumps(one.facts()) not in weight]
        eyes, head = [Eye.of(one.facts()) for one in [*known, *others]], Eye(replace(HEAD, scale=scale), Head())
        parts = Framed(good, panel.frame)
        head.scorers.begin(folds)
        learn(eyes, panel.backbone, parts, folds, console.progress("good parts"), beside=[head])
        held = _held(eyes, panel, parts, folds, console.progress("good parts, fold"))
        for one in eyes:
            one.scorers.forget()
        prior = [weight.get(json.dumps(one.facts()), 0.0) for one in [*eyes, head]]
        return cls(panel, eyes, prior, parts, folds, held, head)

    def taught(self, bad: Sequence[np.ndarray], console: Console) -> tuple[Panel, list[Seen], list[Seen]]:
        """The panel that photos of defects choose and teach a head; what good photos and defects look like to it.

        What a photo scores there comes of scorers, a head and weights that have not learnt from its fold. Raises
        DataError where defects are too few to choose by.
        """
        check(len(bad))
        panel, folds, defects = self.panel, self.folds, Framed(bad, self.panel.frame)
        eyes, prior, held, told = self._asked(defects, console)
        calm = [Calm.of([seen.score for seen in own]) for own in held]
        g, b = (_table(calm, said) for said in (held, told))
        all_ = chosen(g, b, prior)
        kept = np.flatnonzero(all_ > COUNTS * all_.sum())
        g, b, prior = g[:, kept], b[:, kept], prior[kept]
        found = Panel(panel.backbone, [eyes[at] for at in kept], panel.frame, [calm[at] for at in kept],
                      chosen(g, b, prior).tolist())  # fmt: skip
        fold, own = np.arange(len(g)) % folds, np.arange(len(b)) % folds
        good_without = [chosen(g[fold != f], b, prior) for f in range(folds)]
        bad_without = [chosen(g, b[own != f], prior) for f in range(folds)]
        return (
            found,
            _told(found, [held[at] for at in kept], self.parts, fold, good_without),
            _told(found, [told[at] for at in kept], defects, own, bad_without),
        )

    def _asked(
        self, defects: Framed, console: Console
    ) -> tuple[list[Eye], Floats, list[Sequence[Seen]], list[Sequence[Seen]]]:
        """All eyes, what they count without defects, and what good photos and defects look like to each, held out.

        As many defects as teach a head add one.
        """
        panel, folds = self.panel, self.folds
        told = _held(self.eyes, panel, defects, folds, console.progress("defects, fold"), bad=True)
        if len(defects) < TAUGHT:
            return list(self.eyes), np.array(self.prior[:-1]), list(self.held), [*told]
        heads = [copy.deepcopy(self.head)]
        feed(heads, panel.backbone, defects, bad=True)
        heads[0].scorers.settle()
        good = _held(heads, panel, self.parts, folds, console.progress("good parts, head, fold"))
        told += _held(heads, panel, defects, folds, console.progress("defects, head, fold"), bad=True)
        heads[0].scorers.forget()
        return [*self.eyes, *heads], np.array(self.prior), [*self.held, *good], [*told]


def check(n: int) -> None:
    """Raise DataError where defects are too few to choose by."""
    if n < LEAST:
        raise DataError(f"to choose by defects takes {LEAST} photos of them, and there are {n}")


def _held(
    eyes: Sequence[Eye], panel: Panel, photos: Framed, folds: int, progress: Progress, *, bad: bool = False
) -> list[list[Seen]]:
    return held_out(eyes, panel.backbone, photos, folds, inside=panel.frame.inside, progress=progress, bad=bad)


def _told(
    panel: Panel, said: Sequence[Sequence[Seen]], photos: Framed, fold: Ints, weights: Sequence[Floats]
) -> list[Seen]:
    """What photos look like by what their eyes said, each by the weights of its fold."""
    rows = enumerate(zip(*said, strict=True))
    return [panel.together(one, photos.sizes[at], weights[fold[at]].tolist()) for at, one in rows]


def _table(calm: Sequence[Calm], said: Sequence[Sequence[Seen]]) -> Floats:
    """N E, in units of good parts' spread."""
    return np.stack([own([seen.score for seen in seens]) for own, seens in zip(calm, said, strict=True)], 1)
