"""Do the photos of today still look like those that the inspector was fitted to? An alarm that is rarely false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest, ks_2samp

from visionft.arrays import Floats
from visionft.errors import ConfigError

from .judging import Judging
from .promise import Promise, percent
from .signs import names, signs
from .verdict import Verdict

REJECTS = "rejects"
ALIKE = 1e-9  # of a sign's spread: below it, values differ by rounding alone


@dataclass(frozen=True)
class Drift:
    """A sign whose distribution has changed, or rejects that are more than was promised."""

    sign: str
    chance: float  # that a window of unchanged photos differs as much
    before: float  # median of the good photos that were fitted to; of rejects the promised bound
    now: float  # median of the window; of rejects their share

    def __str__(self) -> str:
        way = "rose" if self.now > self.before else "fell" if self.now < self.before else "spreads otherwise, still"
        return f"{self.sign} {way} from {self.before:.3g} to {self.now:.3g} (by chance: {self.chance:.1g})"


@dataclass
class Monitor:
    """Compares windows of photos that passed with the good photos of the fit, sign by sign.

    Kolmogorov and Smirnov's test of two samples for each sign of what passed, and a binomial test of the share of
    rejects; every window gives a false alarm with a chance of at most `alarm`, which the tests share (Bonferroni). A
    sign catches what moves and what stands still: the light, the focus, another lot, a camera that repeats a frame.

    reference: N S, signs of the good photos, held out; those that would be rejected are left out here as on the line
    window: photos that pass between two tests
    """

    reference: Floats
    names: Sequence[str]
    promise: Promise
    window: int = 50
    alarm: float = 1e-3
    passed: list[tuple[str, Floats]] = field(default_factory=list)
    rejected: int = 0
    seen: int = 0
    drifting: list[tuple[str, Floats]] = field(default_factory=list)  # what passed since an alarm

    def __post_init__(self) -> None:
        if self.window < 10 or not 0 < self.alarm < 0.5:
            raise ConfigError(f"window={self.window} takes 10 photos at least, alarm={self.alarm} lies in 0 to 0.5")
        self.reference = self.reference[~self.promise.rejects(self.reference[:, 0])]

    def __call__(self, verdict: Verdict) -> list[Drift]:
        """Take a photo into account; at the end of a window, what has drifted."""
        self.seen += 1
        self.rejected += verdict.reject
        if not verdict.reject:
            self.passed.append((verdict.image, signs(verdict.score, verdict.each, verdict.pixels)))
        if len(self.passed) < self.window and self.seen < 4 * self.window:
            return []
        found = self.compared()
        self.drifting = [*self.drifting, *self.passed] if found else []
        self.passed, self.rejected, self.seen = [], 0, 0
        return found

    def compared(self) -> list[Drift]:
        """What differs in the window as it is now, the surest first."""
        level, bound = self.alarm / (len(self.names) + 1), self.promise.bound
        found = moved(self.names, self.reference, np.array([row for _, row in self.passed]), level)
        if self.seen and (chance := binomtest(self.rejected, self.seen, bound, "greater").pvalue) < level:
            found.append(Drift(REJECTS, float(chance), bound, self.rejected / self.seen))
        return sorted(found, key=lambda drift: drift.chance)

    def to_learn(self, count: int = 40) -> list[str]:
        """Photos that passed since the alarm and show best what has changed: check them, and fit again with them."""
        if not self.drifting:
            return []
        import torch

        from .coreset import coreset

        rows = np.stack([row for _, row in self.drifting])
        scaled = torch.from_numpy((rows - rows.mean(0)) / (rows.std(0) + 1e-12)).float()
        return [self.drifting[int(at)][0] for at in coreset(scaled, count, batch=1)]

    @classmethod
    def of(cls, inspector: Judging, window: int = 50, alarm: float = 1e-3) -> Monitor:
        """Of the good photos that an inspector was fitted to."""
        return cls(inspector.signs, names(inspector.signs.shape[1]), inspector.promise, window, alarm)

    def words(self, found: Sequence[Drift]) -> str:
        """An alarm in a sentence, with what to do."""
        what = "; ".join(map(str, found))
        some = self.to_learn()
        return (
            f"drift: {what}. Fewer than {percent(self.alarm)} of windows of {self.window} unchanged photos say so. If "
            f"the parts are good, fit again with these {len(some)} photos too: {', '.join(some[:3])}, ..."
        )


def moved(names: Sequence[str], before: Floats, now: Floats, level: float) -> list[Drift]:
    """Signs (N S and M S, M may be 0) that differ so much that chance does so less often than `level`."""
    found = list[Drift]()
    if not len(now):
        return found
    for name, old, new in zip(names, before.T, now.T, strict=True):
        if (chance := _chance(old, new)) < level:
            found.append(Drift(name, chance, float(np.median(old)), float(np.median(new))))
    return found


def changes(inspector: Judging, good: Sequence[Verdict], alarm: float = 1e-3) -> list[Drift]:
    """In what good photos differ from those that an inspector was fitted to, the surest first; none of none.

    It says something of photos that do not differ less often than `alarm`.
    """
    if not good or not len(inspector.signs):
        return []
    rows = np.array([signs(one.score, one.each, one.pixels) for one in good])
    called = names(inspector.signs.shape[1])
    found = moved(called, inspector.signs, rows, alarm / len(called))
    return sorted(found, key=lambda drift: drift.chance)


def _chance(before: Floats, now: Floats) -> float:
    """That two samples of one distribution differ as much, whatever it is."""
    step = ALIKE * (float(before.std()) + 1e-12)  # a camera that stands still repeats values but for rounding
    return float(ks_2samp(np.round(before / step), np.round(now / step)).pvalue)
