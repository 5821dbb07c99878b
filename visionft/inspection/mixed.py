"""What labelled defects add: they weigh the eyes and teach a head; what good parts are like stays the base."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionft.arrays import Floats, Ints
from visionft.errors import DataError
from visionft.log import Console

from .eye import Eye, Seen, feed, held_out
from .eyes import OFFERED, eye
from .frame import Framed
from .head import Head
from .panel import Calm, Panel
from .sight import Sight
from .weights import weighed

LEAST = 6  # defects by which anything may be chosen
TAUGHT = 10  # defects from which a head learns
COUNTS = 0.02  # of all weights: an eye that counts less is left out, to save its time
HEAD = Sight(layers=(-3, -2, -1), pool=1)


def with_defects(
    panel: Panel, good: Sequence[np.ndarray], bad: Sequence[np.ndarray], folds: int, console: Console
) -> tuple[Panel, list[Seen], list[Seen]]:
    """A panel of these eyes, of others that defects speak for and of a head, fitted anew; good photos and defects.

    What a photo scores there comes of scorers, a head and weights that have not learnt from its fold. Raises DataError
    where defects are too few to choose by.
    """
    if len(bad) < LEAST:
        raise DataError(f"to choose by defects takes {LEAST} photos of them, and there are {len(bad)}")
    parts, defects = Framed(good, panel.frame), Framed(bad, panel.frame)
    eyes = [Eye.of(one.facts()) for one in panel.eyes] + _others(panel, heads=len(bad) >= TAUGHT)
    for one in eyes:
        one.scorer.begin(folds)
    feed(eyes, panel.backbone, parts, folds, console.progress("good parts"))
    feed([one for one in eyes if one.scorer.learns_defects], panel.backbone, defects, folds, bad=True)
    for one in eyes:
        one.scorer.settle()
    inside = panel.frame.inside
    held = held_out(eyes, panel.backbone, parts, folds, inside=inside, progress=console.progress("good parts, fold"))
    progress = console.progress("defects, fold")
    told = held_out(eyes, panel.backbone, defects, folds, inside=inside, progress=progress, bad=True)
    for one in eyes:
        one.forget()
    calm = [Calm.of([seen.score for seen in own]) for own in held]
    g, b = (_table(calm, said) for said in (held, told))
    prior = np.array([*panel.weights, *[0.0] * (len(eyes) - len(panel.weights))])
    all_ = weighed(g, b, prior)
    kept = np.flatnonzero(all_ > COUNTS * all_.sum())
    g, b, prior = g[:, kept], b[:, kept], prior[kept]
    found = Panel(panel.backbone, [eyes[at] for at in kept], panel.frame, [calm[at] for at in kept],
                  weighed(g, b, prior).tolist())  # fmt: skip
    fold, own = np.arange(len(good)) % folds, np.arange(len(bad)) % folds
    return (
        found,
        _told(found, [held[at] for at in kept], parts, fold, [weighed(g[fold != f], b, prior) for f in range(folds)]),
        _told(found, [told[at] for at in kept], defects, own, [weighed(g, b[own != f], prior) for f in range(folds)]),
    )


def _told(
    panel: Panel, said: Sequence[Sequence[Seen]], photos: Framed, fold: Ints, weights: Sequence[Floats]
) -> list[Seen]:
    """What photos look like by what their eyes said, each by the weights of its fold."""
    rows = enumerate(zip(*said, strict=True))
    return [panel.together(one, photos.sizes[at], weights[fold[at]].tolist()) for at, one in rows]


def _others(panel: Panel, *, heads: bool) -> list[Eye]:
    """All eyes on offer that the panel has not, and a head."""
    known = [one.facts() for one in panel.eyes]
    made = [eye(name) for name in OFFERED] + ([Eye(HEAD, Head())] if heads else [])
    return [one for one in made if one.facts() not in known]


def _table(calm: Sequence[Calm], said: Sequence[Sequence[Seen]]) -> Floats:
    """N E, in units of good parts' spread."""
    return np.stack([own([seen.score for seen in seens]) for own, seens in zip(calm, said, strict=True)], 1)
