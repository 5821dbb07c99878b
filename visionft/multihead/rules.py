"""From numbers to answers, head by head; whatever has to be chosen is chosen on images that no weight was fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

import numpy as np

from visionft.arrays import Floats, Ints
from visionft.data.targets import Classes, Flags, Number, Target, parts
from visionft.evaluation.conformal import quantile
from visionft.evaluation.decision import Decision
from visionft.evaluation.decision import Rule as Way
from visionft.evaluation.flags import tuned_cut

LEAST = 2  # held-out images that a rule is fitted on; with fewer it is the plain one


@dataclass(frozen=True)
class Cuts:
    """A flag is set from its cut on."""

    cuts: tuple[float, ...]
    words: tuple[str, ...] = field(default=(), compare=False)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"cuts": self.cuts, "words": self.words}


@dataclass(frozen=True)
class Band:
    """A number lies within `half` of what is said as often as promised; None where nothing could be promised.

    Split conformal prediction (Lei et al. 2018): of n held-out residuals, the ceil((n + 1) coverage)-th smallest.
    """

    half: float | None = None
    words: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def fit(cls, residuals: Floats, coverage: float) -> Band:
        """From what is left of the truth of held-out images, N."""
        needed = math.ceil(1 / (1 - coverage) - 1e-9) - 1
        if len(residuals) < needed:
            few = f"no interval, it takes {needed} held-out images and there are {len(residuals)}"
            return cls(None, (few,))
        half = quantile(np.abs(residuals), 1 - coverage)
        return cls(half, (f"within {half:.4g} of what is said for {coverage:.0%} of images like these",))

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"half": self.half, "words": self.words}


@dataclass(frozen=True)
class Median:
    """The level that half of the probability lies below or at."""

    words: tuple[str, ...] = field(default=(), compare=False)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"words": self.words}


Rule = Decision | Cuts | Band | Median


def plain(target: Target) -> Rule:
    """How a head is answered before anything is chosen."""
    match target:
        case Classes():
            return Decision.plain(target.width)
        case Flags():
            return Cuts((0.5,) * target.width)
        case Number():
            return Band()
    return Median()


def decide(
    targets: Sequence[Target], said: Floats, values: Floats, groups: Sequence[str] | None = None,
    *, way: Way, coverage: float, temper: bool,
) -> dict[str, Rule]:  # fmt: skip
    """By column, from what is said of held-out images (N A, numbers in their unit) and what is true of them (N V).

    Where `groups` (N) are named, rules prove themselves on groups that they were not chosen by.
    """
    rules = {}
    for target, out, own in zip(targets, parts(targets, "answers"), parts(targets), strict=True):
        known: Any = np.isfinite(values[:, own]).any(axis=1)
        among = groups and list(compress(groups, known))
        rule = _rule(target, said[known, out], values[known, own], among, way, coverage, temper)
        words = tuple(f"{target.column}: {words}" for words in rule.words)
        rules[target.column] = replace(rule, words=words)
    return rules


def _rule(
    target: Target, said: Floats, values: Floats, groups: Sequence[str] | None, way: Way, coverage: float, temper: bool
) -> Rule:
    match target:
        case Classes() if len(values) >= LEAST:
            labels = values[:, 0].astype(np.int64)
            return Decision.fit(said, labels, target.names, rule=way, coverage=coverage, temper=temper, groups=groups)
        case Flags() if way != "likeliest":
            cuts = tuple(_cut(p, truth) for p, truth in zip(said.T, values.T, strict=True))
            return Cuts(cuts, tuple(_told(target, cuts)))
        case Number():
            return Band.fit(values[:, 0] - said[:, 0], coverage)
    return plain(target)


def read(targets: Sequence[Target], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Rule]:
    """Read what the rules' `facts` wrote."""
    return {target.column: _read(target, facts[target.column]) for target in targets}


def median(p: Floats) -> Ints:
    """N K probabilities of levels -> N: how many cuts are likelier passed than not."""
    above = 1 - p.cumsum(axis=1)[:, :-1]
    found: Ints = (above > 0.5).sum(axis=1)
    return found


def _read(target: Target, facts: Mapping[str, Any]) -> Rule:
    match target:
        case Classes():
            return Decision.of(facts)
        case Flags():
            return Cuts(tuple(facts["cuts"]), tuple(facts["words"]))
        case Number():
            return Band(facts["half"], tuple(facts["words"]))
    return Median(tuple(facts["words"]))


def _cut(p: Floats, truth: Floats) -> float:
    known = np.isfinite(truth)
    return tuned_cut(p[known], truth[known])


def _told(target: Flags, cuts: Sequence[float]) -> list[str]:
    names = target.names if target.listed else (target.column,)
    moved = [f"{name} from a probability of {cut:.2f} on" for name, cut in zip(names, cuts, strict=True) if cut != 0.5]
    rest = "" if len(moved) == len(names) else f"{'the others' if moved else 'set'} from 0.50 on"
    return [f"{', '.join(filter(None, [*moved, rest]))}, by F1 on held-out images"]
