"""How good is a classifier, and how sure are we? Plain numbers with bootstrap intervals, overall and by group.

A metric that the labels leave undefined (an AUROC without negatives, the recall of an absent class) is left out:
its key is missing, it is never nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from visionft.arrays import Floats, Ints
from visionft.errors import DataError
from visionft.evaluation.bootstrap import mean_of, named
from visionft.evaluation.ranking import auroc, auroc_interval, average_precision

if TYPE_CHECKING:
    from torch import Tensor

BINS = 15


def summarise(
    probabilities: Tensor,
    labels: Tensor,
    *,
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, float]:
    """Measure a classifier on N labelled samples; `_low` and `_high` bound 95 % percentile bootstrap intervals.

    Probabilities N C, rows summing to one; labels N. Of two classes the last is the positive one. Keys: accuracy,
    balanced_accuracy, macro_f1, log_loss, ece, recall/<class>; with two classes auroc and average_precision; with
    groups accuracy/<group>, and with two classes recall/<group>, of the positive class (a class of that name wins).
    Raises DataError on no samples, on probabilities that are not finite, and on labels that are not of these classes.
    """
    p, y = _checked(probabilities, labels, classes)
    right = (p.argmax(axis=1) == y).astype(np.float64)
    found = named("accuracy", mean_of(right, resamples=resamples, seed=seed))
    found |= _balanced(confusion(probabilities, labels))
    found |= {"log_loss": log_loss(p, y), "ece": expected_calibration_error(p, y)}
    if len(classes) == 2 and 0 < y.sum() < len(y):
        found |= {"auroc": auroc(p[:, 1], y), "average_precision": average_precision(p[:, 1], y)}
        low, high = auroc_interval(p[:, 1], y, resamples=resamples, seed=seed)
        found |= {"auroc_low": low, "auroc_high": high}
    if groups is not None:
        found |= _by_group(right, y, np.asarray(groups), positive=1 if len(classes) == 2 else None)
    return found | {f"recall/{name}": float(right[y == c].mean()) for c, name in enumerate(classes) if (y == c).any()}


def confusion(probabilities: Tensor, labels: Tensor) -> Ints:
    """Count samples by class: C C, rows the truth, columns the prediction."""
    p, y = np.asarray(probabilities), np.asarray(labels, dtype=np.int64)
    size = p.shape[1]
    return np.bincount(y * size + p.argmax(axis=1), minlength=size * size).reshape(size, size)


def log_loss(p: Floats, y: Ints) -> float:
    """Mean of `losses`."""
    return float(losses(p, y).mean())


def losses(p: Floats, y: Ints) -> Floats:
    """-log p of the true class, N; a p below float32's epsilon counts as that."""
    found: Floats = -np.log(p[np.arange(len(y)), y].clip(np.finfo(np.float32).eps, 1))
    return found


def expected_calibration_error(p: Floats, y: Ints, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over equal-width bins of confidence, by bin size (arXiv:1706.04599)."""
    count, confidence, accuracy = reliability(p, y, bins)
    return float((count * np.abs(confidence - accuracy)).sum() / len(y))


def reliability(p: Floats, y: Ints, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """Count, mean confidence and accuracy in `bins` bins (lower, upper] of confidence; an empty one has zeros."""
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    where = np.digitize(top, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count, confidence, hits = (np.bincount(where, w, bins).astype(np.float64) for w in (np.ones(len(y)), top, right))
    return count, confidence / count.clip(1), hits / count.clip(1)


def _balanced(matrix: Ints) -> dict[str, float]:
    """A class absent from the truth has no recall; one absent from truth and prediction has no F1."""
    right, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    recall = right[truth > 0] / truth[truth > 0]
    known = truth + predicted > 0
    f1 = 2 * right[known] / (truth + predicted)[known]
    return {"balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean())}


def _by_group(right: Floats, y: Ints, groups: npt.NDArray[np.str_], positive: int | None) -> dict[str, float]:
    found = {}
    for group in np.unique(groups):
        inside = groups == group
        found[f"accuracy/{group}"] = float(right[inside].mean())
        if positive is not None and (hits := inside & (y == positive)).any():
            found[f"recall/{group}"] = float(right[hits].mean())
    return found


def _checked(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> tuple[Floats, Ints]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if p.shape != (len(y), len(classes)) or not len(y):
        raise DataError(f"{len(y)} samples of {len(classes)} classes cannot have probabilities of shape {[*p.shape]}")
    if not np.isfinite(p).all():
        raise DataError(f"the probabilities of {(~np.isfinite(p).all(axis=1)).sum()} samples are not finite")
    if y.min() < 0 or y.max() >= len(classes):
        raise DataError(f"labels run from {y.min()} to {y.max()}; {len(classes)} classes allow 0 to {len(classes) - 1}")
    return p, y
