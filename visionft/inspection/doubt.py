"""Photos that could be either: as low as defects can score, and not so high that they are rejected; ask a human.

The other side of the promise: with n defects held out, a new one of their kind scores below the floor(a (n + 1))-th
smallest of them with a chance of at most a. Between that score and the threshold neither good nor defective can be
excluded (the conformal set holds both: Vovk 2005; kind by kind, which is called Mondrian).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from visionft.arrays import Bools
from visionft.errors import DataError

from .promise import percent


@dataclass(frozen=True)
class Doubt:
    """Scores of defects by kind, of an inspector that has not learnt from them, and the share that may pass as good.

    It is kept for all kinds together, as they occur here, and with `by_kind` for each that has enough photos, too.
    """

    scores: Mapping[str, Sequence[float]]
    false_accept: float
    by_kind: bool = False

    @classmethod
    def of(cls, scores: npt.ArrayLike, kinds: Sequence[str], false_accept: float, *, by_kind: bool = False) -> Doubt:
        """From held-out scores (N) and their kinds. Raises DataError where so few cannot support it."""
        values, names = np.asarray(scores, np.float64), np.asarray(kinds)
        if not np.isfinite(values).all():
            raise DataError(f"{(~np.isfinite(values)).sum()} of {len(values)} scores of defects are not finite")
        enough(len(values), false_accept)
        found = {str(kind): sorted(values[names == kind].tolist()) for kind in dict.fromkeys(kinds)}
        return cls(found, false_accept, by_kind)

    @cached_property
    def threshold(self) -> float:
        """From it on, a part cannot be called good."""
        together = [score for scores in self.scores.values() for score in scores]
        return min(
            sorted(scores)[math.floor(self.false_accept * (len(scores) + 1) + 1e-9) - 1]
            for scores in (together, *self._own().values())
        )

    def among(self, scores: npt.ArrayLike, rejected: npt.ArrayLike) -> Bools:
        """Which photos, of these scores and so decided, could be either."""
        found: Bools = (np.asarray(scores, np.float64) >= self.threshold) & ~np.asarray(rejected, bool)
        return found

    def words(self) -> str:
        """The promise in a sentence."""
        own, count = self._own(), sum(map(len, self.scores.values()))
        few = [f"{kind} ({len(scores)})" for kind, scores in self.scores.items() if kind not in own]
        said = f"at most {percent(self.false_accept)} of defects pass as good, by the scores of {count} held out"
        if own:
            said += f", and of each kind: {', '.join(own)}"
        if self.by_kind and few:
            said += f"; of {', '.join(few)} there are too few to promise it for them alone"
        return f"{said}; what could be either is unsure"

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; `Doubt(**facts)` reads them."""
        return {"scores": dict(self.scores), "false_accept": self.false_accept, "by_kind": self.by_kind}

    def _own(self) -> dict[str, Sequence[float]]:
        """Of kinds that have a promise of their own, their scores."""
        takes = least(self.false_accept) if self.by_kind else math.inf
        return {kind: scores for kind, scores in self.scores.items() if len(scores) >= takes}


def enough(n: int, false_accept: float) -> None:
    """Raise DataError where n defects cannot support such a promise."""
    if n < least(false_accept):
        can = math.ceil(1e4 / (n + 1)) / 1e4
        raise DataError(
            f"false_accept={false_accept:g} needs at least {least(false_accept)} photos of defects and there are {n}, "
            f"which support false_accept={can:g}"
        )


def least(false_accept: float) -> int:
    """Held-out defects that a promise takes at least."""
    return math.ceil(1 / false_accept - 1e-9) - 1
