"""A threshold as a promise: at most so many good parts in a hundred are rejected, and what that promise stands on.

Scores of good parts that the scorer has not learnt from say how good parts score. With n of them, a new good part's
score is equally likely to have any rank among all n + 1, so that rejecting beyond the ceil((1 - a)(n + 1))-th smallest
rejects at most a share a of good parts, whatever the distribution (split conformal prediction, Vovk 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from visionft.arrays import Bools, Floats
from visionft.errors import DataError
from visionft.evaluation.conformal import rank

SURE = 0.95  # confidence of the bound


@dataclass(frozen=True)
class Promise:
    """Sorted scores of held-out good parts (n) and the share of good parts that may be rejected.

    On average over sets of held-out parts no more are rejected; with a `confidence` c, no more by the threshold of a
    share c of such sets, which takes more of them.
    """

    scores: Floats
    false_reject: float
    confidence: float | None = None

    @classmethod
    def of(cls, scores: npt.ArrayLike, false_reject: float, confidence: float | None = None) -> Promise:
        """Promise from held-out scores. Raises DataError where so few of them cannot support it."""
        held = np.sort(np.asarray(scores, np.float64))
        if not np.isfinite(held).all():
            raise DataError(f"{(~np.isfinite(held)).sum()} of {len(held)} scores of good parts are not finite")
        check(len(held), false_reject, confidence)
        return cls(held, false_reject, confidence)

    @property
    def rank(self) -> int:
        """Which of the held-out scores, from the smallest, is the threshold; 1 is the first."""
        n = len(self.scores)
        if self.confidence is None:
            return rank(n, self.false_reject)
        ranks = np.arange(1, n + 1)
        return int(ranks[betaincinv(n + 1 - ranks, ranks, self.confidence) <= self.false_reject][0])

    @property
    def threshold(self) -> float:
        """Beyond it, a part is rejected."""
        return float(self.scores[self.rank - 1])

    @property
    def bound(self) -> float:
        """The share of good parts that this very threshold rejects is below it, with 95 % confidence.

        Over draws of the held-out parts that share is Beta(n + 1 - rank, rank) distributed: the upper end of Clopper
        and Pearson's interval (1934) for n - rank rejected of n.
        """
        return float(betaincinv(len(self.scores) + 1 - self.rank, self.rank, SURE))

    def rejects(self, scores: npt.ArrayLike) -> Bools:
        """Which of these scores are beyond the threshold."""
        found: Bools = np.asarray(scores, np.float64) > self.threshold
        return found

    def p_values(self, scores: npt.ArrayLike) -> Floats:
        """How often a good part scores as high or higher: (1 + how many held-out scores do) / (n + 1), never 0.

        Without a `confidence`, a score is rejected just where its p-value is at most `false_reject`.
        """
        below = np.searchsorted(self.scores, np.asarray(scores, np.float64), side="left")
        found: Floats = (1 + len(self.scores) - below) / (len(self.scores) + 1)
        return found

    def words(self) -> str:
        """The promise in a sentence."""
        most, by = percent(self.false_reject), f"by the scores of {len(self.scores)} good images held out"
        if self.confidence is not None:
            return f"at most {most} of good parts are rejected with {percent(self.confidence)} confidence, {by}"
        return (
            f"at most {most} of good parts are rejected, {by}; this threshold rejects less than {percent(self.bound)} "
            "with 95 % confidence"
        )

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; `Promise.of(**facts)` reads them."""
        return {"scores": self.scores.tolist(), "false_reject": self.false_reject, "confidence": self.confidence}


def percent(share: float) -> str:
    """0.0123 -> 1.23 %."""
    return f"{100 * share:.3g} %"


def check(n: int, false_reject: float, confidence: float | None = None) -> None:
    """Raise DataError where n held-out good images cannot support such a promise."""
    if n < least(false_reject, confidence):
        sure = f" with confidence={confidence:g}" if confidence is not None else ""
        can = 1 / (n + 1) if confidence is None else 1 - (1 - confidence) ** (1 / max(1, n))
        raise DataError(
            f"false_reject={false_reject:g}{sure} needs at least {least(false_reject, confidence)} good images and "
            f"there are {n}, which support false_reject={math.ceil(1e4 * can) / 1e4:g}"
        )


def least(false_reject: float, confidence: float | None = None) -> int:
    """Held-out good parts that a promise takes at least."""
    if confidence is not None:
        return math.ceil(math.log(1 - confidence) / math.log(1 - false_reject) - 1e-9)
    return math.ceil(1 / false_reject - 1e-9) - 1
