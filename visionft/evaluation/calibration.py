"""Probabilities that mean what they say: one temperature, taken only where it lowers the loss on held-out images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

from visionft.arrays import Floats, Ints
from visionft.errors import DataError

LIMITS = (0.5, 20.0)  # of a temperature: a few images told without a mistake would have it near 0


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by `value`; 1 where no other number lowers the loss on images that it was not fitted on."""

    value: float
    before: float  # mean log-loss of the held-out images as they are
    after: float  # and with temperatures fitted on the others

    @property
    def words(self) -> str:
        """What was decided."""
        if np.isnan(self.after):
            return "no temperature: too few held-out images to tell whether one helps"
        if self.value == 1:
            return f"no temperature: held-out log-loss {self.before:.4f}, {self.after:.4f} with one"
        sure = "too sure of itself" if self.value > 1 else "less sure than it might be"
        return f"temperature {self.value:.2f} ({sure}): held-out log-loss {self.before:.4f} to {self.after:.4f}"


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature with the least log-loss, N C and N (Guo et al. 2017, arXiv:1706.04599).

    The loss is convex in 1/T, so the sign of its slope is bisected. Raises DataError without samples.
    """
    if not len(labels):
        raise DataError("a temperature needs labelled images that training has not seen")
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(logits, labels, middle) <= 0 else (low, middle)
    return 2 / (low + high)


def calibrate(logits: Floats, labels: Ints, *, folds: int = 5, seed: int = 0) -> Temperature:
    """Fit a temperature on held-out images of the final model, and take it only if it helps on others of them.

    Each fold of the images is judged with the temperature of the rest. Logits of models that are fitted less well than
    the final one (out-of-fold logits) would give a temperature that makes it worse.
    """
    if len(labels) < 2 * folds:
        return Temperature(1.0, log_loss(logits, labels), float("nan"))
    fold = np.random.default_rng(seed).permutation(len(labels)) % folds
    total = 0.0
    for f in range(folds):
        out = fold == f
        t = fit_temperature(logits[~out], labels[~out])
        total += log_loss(logits[out] / t, labels[out]) * int(out.sum())
    before, after = log_loss(logits, labels), total / len(labels)
    return Temperature(fit_temperature(logits, labels) if after < before else 1.0, before, after)


def log_loss(logits: Floats, labels: Ints) -> float:
    """Mean cross-entropy of logits."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _slope(logits: Floats, labels: Ints, inverse: float) -> float:
    """Of the log-loss by 1/T: the expected logit less that of the truth."""
    p = softmax(logits * inverse, axis=1)
    return float(((p * logits).sum(1) - logits[np.arange(len(labels)), labels]).mean())
