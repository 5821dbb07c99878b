"""What an inspector is worth: escapes and overkill at its threshold, ranking, by kind of defect and by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionft.annotations.marked import NO_DEFECT
from visionft.arrays import Bools
from visionft.errors import DataError
from visionft.evaluation.anomaly import Pixels, f1_max, span
from visionft.evaluation.bootstrap import Bounded
from visionft.evaluation.intervals import wilson
from visionft.evaluation.ranking import auroc, auroc_interval, average_precision

from .promise import Promise, percent
from .verbs import Costs
from .verdict import Verdict

Where = Callable[[int, int, int], Bools | None]
SAID = 3  # changes that are said in words


@dataclass(frozen=True)
class Share:
    """How many of how many, and where the true share lies with 95 % confidence (Wilson 1927)."""

    count: int
    of: int

    @property
    def bounded(self) -> Bounded:
        """The share and its interval; nan of nothing."""
        share = self.count / self.of if self.of else float("nan")
        return (share, *wilson(share if self.of else 0.0, self.of))

    def __str__(self) -> str:
        if not self.of:
            return "none"
        share, low, high = self.bounded
        return f"{self.count} of {self.of}, {100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class Worth:
    """Measured on images that nothing was learnt from or chosen by."""

    escapes: Share  # defects that pass as good
    overkill: Share  # good parts that are rejected
    kept: bool  # whether that is no more than the promise's bound allows
    auroc: Bounded | None
    average_precision: float | None
    f1_max: float | None  # at a threshold that looked at these very images
    kinds: Mapping[str, Share]  # by kind of defect, those that do not pass as good
    groups: Mapping[str, tuple[Share, Share]]  # by group: escapes, overkill
    unsure: tuple[Share, Share] | None = None  # of defects, of good parts; None where nothing could be
    pixel_auroc: float | None = None
    aupro: float | None = None
    changes: Sequence[str] = ()  # in what the good parts differ from those that were fitted to
    seen: int = 0  # photos that were learnt from, which flatter

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        found: dict[str, Any] = {
            "escapes": self.escapes.bounded, "overkill": self.overkill.bounded, "promise_kept": self.kept,
            "auroc": self.auroc, "average_precision": self.average_precision, "f1_max": self.f1_max,
            "pixel_auroc": self.pixel_auroc, "aupro": self.aupro,
            "groups": {
                group: {"escapes": escapes.bounded, "overkill": overkill.bounded}
                for group, (escapes, overkill) in self.groups.items()
            },
            "found_by_kind": {kind: share.bounded for kind, share in self.kinds.items()},
            "unsure": self.unsure and {"defects": self.unsure[0].bounded, "good": self.unsure[1].bounded},
            "changes": list(self.changes), "seen": self.seen,
        }  # fmt: skip
        return {key: value for key, value in found.items() if value is not None}

    def words(self, promise: Promise) -> str:
        """What came out, in sentences."""
        told = []
        if self.seen:
            told.append(f"{self.seen} of these photos were learnt from: what follows flatters; leave them out.")
        told += [f"Defects that pass: {self.escapes}.", f"Good parts that are rejected: {self.overkill}."]
        if self.unsure:
            told.append(f"Unsure: of defects {self.unsure[0]}, of good parts {self.unsure[1]}.")
        if self.overkill.of:
            told.append(self._promised(promise))
        if self.changes:
            told.append(f"These good parts differ from those that were fitted to: {'; '.join(self.changes[:SAID])}.")
        if self.auroc:
            told.append("AUROC {:.3f} ({:.3f} to {:.3f}).".format(*self.auroc))
        missed = {kind: share for kind, share in self.kinds.items() if share.count < share.of}
        if missed:
            worst = min(missed, key=lambda kind: missed[kind].bounded[0])
            told.append(f"Of {worst}, found least often: {missed[worst]}.")
        return " ".join(told)

    def _promised(self, promise: Promise) -> str:
        """Whether the promise held, as far as so many good parts can tell."""
        what = f"at most {percent(promise.false_reject)}, below {percent(promise.bound)} with 95 % confidence"
        if not self.kept:
            return f"The promise did not hold: {what}."
        if self.overkill.bounded[0] <= promise.false_reject:
            return f"The promise held: {what}."
        return f"That is more than was promised ({what}), but so few good parts can show it by chance."

    def cost(self, costs: Costs) -> Bounded:
        """Expected cost of a part of the line, and between what it lies where all shares are at their interval's end.

        escape x defects x escapes + overkill x (1 - defects) x overkill + look x what is unsure. Raises ConfigError
        where `costs` do not say what an escape costs and how many parts are defective.
        """
        terms = list(zip(costs.prices(), (self.escapes, self.overkill), strict=True))
        if self.unsure and costs.defects is not None:
            terms += zip((costs.defects * costs.look, (1 - costs.defects) * costs.look), self.unsure, strict=True)
        own = [[each * end for end in share.bounded] for each, share in terms if each]
        value, low, high = (sum(ends) for ends in zip(*own, strict=True)) if own else (0.0, 0.0, 0.0)
        return value, low, high


def evaluate(
    verdicts: Sequence[Verdict], kinds: Sequence[str], promise: Promise, *, good: str = NO_DEFECT,
    groups: Sequence[str] | None = None, where: Where | None = None,
) -> Worth:  # fmt: skip
    """Measure verdicts against the truth: `kinds` (N) name the kind of defect or are `good`.

    `where` says of the i-th photo, H W, which pixels are defective, None where that is not known; it is not asked of
    good parts. Raises DataError without images.
    """
    if not verdicts:
        raise DataError("there are no images to evaluate on")
    defect = np.array([kind != good for kind in kinds])
    rejected = np.array([verdict.reject for verdict in verdicts])
    unsure = np.array([verdict.unsure for verdict in verdicts])
    passed, told = ~rejected & ~unsure, counted(rejected, unsure, defect)
    scores = np.array([verdict.score for verdict in verdicts])
    both = bool(defect.any() and not defect.all())
    own = np.asarray(groups) if groups is not None else None
    return Worth(
        kept=not told["overkill"].of or told["overkill"].bounded[1] <= promise.bound,
        **told,
        auroc=(auroc(scores, defect), *auroc_interval(scores, defect)) if both else None,
        average_precision=average_precision(scores, defect) if both else None,
        f1_max=f1_max(scores, defect)[0] if both else None,
        kinds={kind: _share(~passed, np.asarray(kinds) == kind) for kind in dict.fromkeys(kinds) if kind != good},
        groups={} if own is None else {
            str(group): (_share(passed, defect & (own == group)), _share(rejected, ~defect & (own == group)))
            for group in np.unique(own)
        },
        **_places(verdicts, defect, where),
    )  # fmt: skip


def counted(rejected: Bools, unsure: Bools, defect: Bools) -> dict[str, Any]:
    """The shares of a `Worth` that decisions on photos make."""
    return {
        "escapes": _share(~rejected & ~unsure, defect), "overkill": _share(rejected, ~defect),
        "unsure": (_share(unsure, defect), _share(unsure, ~defect)) if unsure.any() else None,
    }  # fmt: skip


def _share(hits: Bools, among: Bools) -> Share:
    return Share(int((hits & among).sum()), int(among.sum()))


def _places(verdicts: Sequence[Verdict], defect: Bools, where: Where | None) -> dict[str, Any]:
    """Pixel numbers over good parts and the defects of which it is known where they are."""
    if where is None:
        return {}
    pixels = Pixels(*span([verdict.places for verdict in verdicts]))
    for at, (verdict, bad) in enumerate(zip(verdicts, defect, strict=True)):
        mask = where(at, *verdict.size) if bad else np.zeros(verdict.size, bool)
        if mask is not None:
            pixels.add(verdict.heat, mask)
    return {"pixel_auroc": pixels.auroc(), "aupro": pixels.aupro()}
