"""From probabilities to an answer: one temperature, one trade between classes, and when to ask a human.

All of it is fitted on labelled images that the network has not learned from, and never on test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from visionft.arrays import Floats, Ints
from visionft.errors import DataError

from .bootstrap import bounded, mean_of, named
from .calibration import calibrate
from .conformal import Conformal
from .folds import fold_of, places

Rule = Literal["auto", "likeliest", "balanced"]
RARE = 4  # from this many images of the commonest class to one of the rarest on, `auto` balances
EXPONENTS = np.linspace(0, 2, 41)
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Decision:
    """How probabilities (N C) are answered.

    They are first calibrated by the temperature; the answer is the class with the largest probability times `factors`;
    `sets`, where there were images enough to promise them, say who is unsure.
    """

    temperature: float
    factors: tuple[float, ...]  # C, the largest is 1; all 1: the likeliest class
    sets: Conformal | None = None
    words: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def plain(cls, classes: int) -> Decision:
        """The likeliest class, as the network says it."""
        return cls(1.0, (1.0,) * classes)

    @classmethod
    def fit(
        cls,
        p: Floats,
        labels: Ints,
        classes: Sequence[str],
        *,
        rule: Rule,
        coverage: float,
        temper: bool = True,
        groups: Sequence[str] | None = None,
    ) -> Decision:
        """Decide how to answer, from probabilities of held-out images (N C) and their labels.

        A rule must prove itself on images, and on `groups` (N) where they are named, that it was not chosen by.
        `temper` says that these are answers of the very network that will be asked: a temperature fitted on answers
        of others, less well trained, makes it worse.
        """
        p, labels = np.asarray(p, np.float64), np.asarray(labels, np.int64)
        found = calibrate(_log(p), labels) if temper else None
        temperature = found.value if found else 1.0
        p = tempered(p, temperature)
        factors, about = _factors(p, labels, classes, rule, groups)
        try:
            sets = Conformal.fit(p, labels, miss=1 - coverage)
            promise = _promise(sets, p, len(labels))
        except DataError as error:
            sets, promise = None, f"no sets of classes: {error}"
        return cls(temperature, factors, sets, (*([found.words] if found else []), about, promise))

    def calibrated(self, p: Floats) -> Floats:
        """Probabilities N C after the temperature."""
        return tempered(p, self.temperature)

    def choose(self, p: Floats) -> Ints:
        """The answer to calibrated probabilities, N."""
        chosen: Ints = (np.asarray(p) * self.factors).argmax(axis=1)
        return chosen

    def judge(self, p: Floats, labels: Ints) -> dict[str, float]:
        """What these answers are worth on labelled images, given calibrated probabilities: with 95 % intervals.

        Keys: accuracy, balanced_accuracy; with sets also coverage (of the truth), sure (share of images whose set is
        one class) and accuracy_when_sure.
        """
        p, labels = np.asarray(p, np.float64), np.asarray(labels, np.int64)
        right = (self.choose(p) == labels).astype(np.float64)
        found = named("accuracy", mean_of(right))
        found |= bounded("balanced_accuracy", lambda counts: balanced_accuracy(right, labels, counts), len(labels))
        if self.sets is not None:
            sure = ~self.sets.unsure(p)
            held = self.sets.sets(p)[np.arange(len(labels)), labels]
            found |= named("coverage", mean_of(held)) | named("sure", mean_of(sure))
            if sure.any():
                found |= named("accuracy_when_sure", mean_of(right[sure]))
        return found

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; `of` reads them."""
        sets = self.sets and {"miss": self.sets.miss, "quantiles": self.sets.quantiles, "images": self.sets.images}
        return {"temperature": self.temperature, "factors": self.factors, "sets": sets, "words": self.words}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Decision:
        """Read what `facts` wrote."""
        s = facts["sets"]
        sets = Conformal(s["miss"], tuple(s["quantiles"]), tuple(s["images"])) if s else None
        return cls(facts["temperature"], tuple(facts["factors"]), sets, tuple(facts["words"]))


def tempered(p: Floats, temperature: float) -> Floats:
    """Probabilities of logits divided by the temperature: p ** (1 / T), rows made to sum to one."""
    if temperature == 1:
        return p
    z = _log(p) / temperature
    z = np.exp(z - z.max(axis=1, keepdims=True))
    divided: Floats = z / z.sum(axis=1, keepdims=True)
    return divided


def balanced_accuracy(right: Floats, labels: Ints, weight: Floats | None = None) -> Floats:
    """Mean recall of the classes that are there; `weight` R N says how often each image was drawn, giving R values."""
    weight = np.ones((1, len(labels))) if weight is None else weight
    hits, all_ = (np.stack([weight @ (w * (labels == c)) for c in np.unique(labels)]) for w in (right, 1.0))
    with np.errstate(invalid="ignore"):
        recall: Floats = np.nanmean(np.where(all_ > 0, hits / all_.clip(1), np.nan), axis=0)
    return recall


def exponent(p: Floats, labels: Ints, *, folds: int = 5, seed: int = 0, groups: Sequence[str] | None = None) -> float:
    """The a for which multiplying probabilities by share ** -a gives the best balanced accuracy on held-out images.

    0 keeps the likeliest class, 1 is Bayes' rule for classes that are equally frequent; of two classes, every a is a
    threshold. One number for all classes, so that a few dozen images can choose it; it is taken only if it also helps
    on images, of other `groups` if these are named, that it was not chosen by.
    """
    share = np.bincount(labels, minlength=p.shape[1]).clip(0.5) / len(labels)
    right = np.stack([((p * share**-a).argmax(axis=1) == labels) for a in EXPONENTS]).astype(np.float64)
    fold = fold_of(torch.from_numpy(labels), folds, seed, None if groups is None else places(groups)).numpy()
    held = [fold == f for f in range(fold.max() + 1)]  # but for a class's only image
    if not held:
        return 0.0
    told = np.concatenate([right[_best(right[:, ~out], labels[~out])][out] for out in held])
    plain, truth = (np.concatenate([each[out] for out in held]) for each in (right[0], labels))
    helps = balanced_accuracy(told, truth) > balanced_accuracy(plain, truth)
    return float(EXPONENTS[_best(right, labels)]) if helps else 0.0


def _best(right: Floats, labels: Ints) -> int:
    """The middle of the first run of exponents with the highest balanced accuracy."""
    scores = np.array([balanced_accuracy(row, labels)[0] for row in right])
    top = np.flatnonzero(scores >= scores.max() - 1e-12)
    end = next((i for i in range(1, len(top)) if top[i] != top[i - 1] + 1), len(top))
    return int(top[:end][(end - 1) // 2])


def _factors(
    p: Floats, labels: Ints, classes: Sequence[str], rule: Rule, groups: Sequence[str] | None
) -> tuple[tuple[float, ...], str]:
    counts = np.bincount(labels, minlength=len(classes)).clip(0.5)
    if rule == "likeliest" or (rule == "auto" and counts.max() < RARE * counts.min()):
        return (1.0,) * len(classes), "answers are the likeliest class"
    a = exponent(p, labels, groups=groups)
    factors = (counts.min() / counts) ** a
    said = tuple(float(f) for f in factors / factors.max())
    if a == 0:
        return said, "answers are the likeliest class: no other rule had a better balanced accuracy on held-out images"
    if len(classes) == 2:
        return said, f"{classes[1]} from a probability of {said[0] / sum(said):.2f} on, chosen for balanced accuracy"
    return said, f"probabilities count by (share of the class) ** -{a:.2f}, chosen for balanced accuracy"


def _promise(sets: Conformal, p: Floats, n: int) -> str:
    low, high = sets.coverage()
    unsure = float(sets.unsure(p).mean())
    return (
        f"sets of classes that hold the truth for {1 - sets.miss:.0%} of images like these ({low:.0%} to {high:.0%}, "
        f"given only {n}); not exactly one class for {unsure:.0%} of them: those are unsure, ask a human"
    )


def _log(p: Floats) -> Floats:
    log_p: Floats = np.log(np.asarray(p, np.float64).clip(TINY))
    return log_p
