"""Sets of classes that hold the truth with a stated probability, and who is to be asked when a set is not one class.

Split conformal prediction (Vovk 2005; Lei 2018): of n held-out images that are exchangeable with later ones, take the
ceil((n + 1)(1 - miss))-th smallest score 1 - p(truth). A later image's set misses its truth with probability <= miss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from visionft.arrays import Bools, Floats, Ints
from visionft.errors import DataError


@dataclass(frozen=True)
class Conformal:
    """Classes with p >= 1 - quantile are in the set; one quantile, or one a class."""

    miss: float
    quantiles: tuple[float, ...]  # C of them, all alike unless by class
    images: tuple[int, ...]  # held-out images behind each

    @classmethod
    def fit(cls, p: Floats, labels: Ints, *, miss: float, by_class: bool = False) -> Conformal:
        """From probabilities (N C) of held-out images and their labels.

        `by_class` promises `miss` for the images of every class instead of for all images together. Raises DataError
        when there are too few images for the promise, saying how many it takes.
        """
        if not 0 < miss < 1:
            raise DataError(f"miss={miss} makes no sense: it is the share of images whose set may lack the truth")
        scores = 1 - p[np.arange(len(labels)), labels]
        parts = [scores[labels == c] for c in range(p.shape[1])] if by_class else [scores] * p.shape[1]
        needed = math.ceil(1 / miss - 1e-9) - 1
        short = [len(part) for part in parts if len(part) < needed]
        if short:
            each = "of every class " if by_class else ""
            raise DataError(f"miss={miss:g} needs at least {needed} held-out images {each}and there are {min(short)}")
        return cls(miss, tuple(quantile(part, miss) for part in parts), tuple(len(part) for part in parts))

    def sets(self, p: Floats) -> Bools:
        """N C: which classes each image may be of."""
        held: Bools = 1 - p <= np.asarray(self.quantiles)
        return held

    def unsure(self, p: Floats) -> Bools:
        """N: whether the set is not exactly one class, so that a human should be asked."""
        several: Bools = self.sets(p).sum(axis=1) != 1
        return several

    def coverage(self, *, level: float = 0.95) -> tuple[float, float]:
        """Between which shares the coverage of this very quantile lies, over draws of the held-out images.

        It has a beta distribution (Vovk 2012): k of n + 1 - k, where the k-th of n scores was taken.
        """
        n = min(self.images)
        k = rank(n, self.miss)
        low, high = betaincinv(k, n + 1 - k, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def rank(n: int, miss: float) -> int:
    """Which of n scores, from the smallest, is taken."""
    return min(n, math.ceil((n + 1) * (1 - miss) - 1e-9))


def quantile(scores: Floats, miss: float) -> float:
    """The score that keeps the promise."""
    at = rank(len(scores), miss) - 1
    return float(np.partition(scores, at)[at])
