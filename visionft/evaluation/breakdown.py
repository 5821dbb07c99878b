"""Which classes and which groups are served worse, and is that more than chance? Counts, shares and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionft.arrays import Floats, Ints

from .bootstrap import bootstrap
from .intervals import wilson

Share = tuple[float, float, float]  # a value and its 95 % interval
SHUFFLES = 2000


@dataclass(frozen=True)
class OfClass:
    """What became of the images of one class; None where nothing defines a number."""

    name: str
    truth: int  # images of this class
    said: int  # images that were called so
    recall: Share | None
    precision: Share | None
    f1: Share | None


@dataclass(frozen=True)
class OfGroup:
    """What became of the images of one group."""

    name: str
    images: int
    accuracy: Share
    positives: int = 0
    recall: Share | None = None  # of the positive class, of two classes the last


@dataclass(frozen=True)
class Unevenness:
    """The groups with the lowest and the highest share, and how often chance alone sets groups so far apart."""

    worst: str
    best: str
    gap: float
    chance: float  # the share of shuffles of the groups among the images with such a gap or a larger one

    @property
    def proven(self) -> bool:
        """Whether chance sets groups so far apart in at most one of twenty cases."""
        return self.chance <= 0.05


def by_class(guess: Ints, labels: Ints, classes: Sequence[str], *, seed: int = 0) -> list[OfClass]:
    """Recall and precision with Wilson intervals, F1 with a bootstrap interval over all images; one row a class."""
    rows = []
    for c, name in enumerate(classes):
        truth, said = labels == c, guess == c
        rows.append(OfClass(name, int(truth.sum()), int(said.sum()), _share(said[truth]), _share(truth[said]),
                            _f1(truth, said, seed)))  # fmt: skip
    return rows


def by_group(guess: Ints, labels: Ints, groups: Sequence[str], *, positive: int | None = None) -> list[OfGroup]:
    """Accuracy, and the recall of the positive class where there is one, with Wilson intervals; one row a group."""
    right, of = guess == labels, np.asarray(groups)
    rows = []
    for name in sorted(set(groups)):
        inside = of == name
        hits = right[inside & (labels == positive)] if positive is not None else right[:0]
        rows.append(OfGroup(name, int(inside.sum()), _sure(right[inside]), len(hits), _share(hits)))
    return rows


def unevenness(hits: Floats, groups: Sequence[str], *, seed: int = 0) -> Unevenness | None:
    """Judge the gap between the worst and the best group by shuffling which image is of which group.

    So the search for the worst among many groups, which always finds one, is allowed for, and so are small groups.
    None with fewer than two groups.
    """
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return None
    member = np.eye(len(names))[of]  # M G
    count = member.sum(axis=0)
    share = hits @ member / count
    gap = float(share.max() - share.min())
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(hits) for _ in range(SHUFFLES)]) @ member / count
    wide = (np.ptp(shuffled, axis=1) >= gap - 1e-12).sum()
    chance = (1 + int(wide)) / (1 + SHUFFLES)  # the order that was observed is one of them
    return Unevenness(str(names[share.argmin()]), str(names[share.argmax()]), gap, chance)


def _share(hits: np.ndarray) -> Share | None:
    return _sure(hits) if len(hits) else None


def _sure(hits: np.ndarray) -> Share:
    share = float(hits.mean())
    return share, *wilson(share, len(hits))


def _f1(truth: np.ndarray, said: np.ndarray, seed: int) -> Share | None:
    both = (truth & said).astype(np.float64)
    either = truth.astype(np.float64) + said
    if not either.any():
        return None

    def f1(counts: Floats) -> Floats:
        above, below = 2 * counts @ both, counts @ either
        ratio: Floats = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
        return ratio

    return float(2 * both.sum() / either.sum()), *bootstrap(f1, len(truth), seed=seed)
