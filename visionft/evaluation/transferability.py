"""How well will these frozen features serve these labels? Scores that need no training, beside the probe's own."""

from __future__ import annotations

import numpy as np

from visionft.arrays import Floats, Ints
from visionft.errors import DataError


def logme(features: Floats, labels: Ints, classes: int) -> float:
    """Log of the maximum evidence of a Bayesian linear map from features (N D) to one-hot labels, per image and class.

    LogME, arXiv:2102.11005: y = F w + noise with w ~ N(0, 1/alpha) and noise ~ N(0, 1/beta); alpha and beta are those
    of the greatest evidence, found by MacKay's fixed point in the features' singular basis. Raises DataError on fewer
    than two classes.
    """
    if len(np.unique(labels)) < 2:
        raise DataError("LogME needs labels of at least two classes")
    n, d = features.shape
    u, s, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    values = [_evidence(u.T @ y, s**2, float(y @ y), n, d) for y in np.eye(classes)[labels].T]
    return float(np.mean(values)) / len(labels)


def _evidence(z: Floats, eigen: Floats, energy: float, n: int, d: int) -> float:
    """Of one target: z = U'y for the directions with squared singular values `eigen`, energy = |y|^2."""
    alpha, beta = 1.0, 1.0
    for _ in range(100):
        shrunk = alpha + beta * eigen
        effective = float((beta * eigen / shrunk).sum())
        weight = float((beta**2 * eigen * z**2 / shrunk**2).sum())  # |m|^2
        rest = float((alpha**2 * z**2 / shrunk**2).sum()) + energy - float(z @ z)  # |y - F m|^2
        before = alpha / beta
        alpha = effective / max(weight, 1e-12)
        beta = (n - effective) / max(rest, 1e-12)
        if abs(alpha / beta - before) <= 1e-5 * before:
            break
    shrunk = alpha + beta * eigen
    weight = float((beta**2 * eigen * z**2 / shrunk**2).sum())
    rest = float((alpha**2 * z**2 / shrunk**2).sum()) + energy - float(z @ z)
    logs = float(np.log(shrunk).sum()) + (d - len(eigen)) * np.log(alpha)
    evidence: float = (
        d / 2 * np.log(alpha) + n / 2 * np.log(beta) - n / 2 * np.log(2 * np.pi)
        - beta / 2 * rest - alpha / 2 * weight - logs / 2
    )  # fmt: skip
    return evidence


def leep(source: Floats, labels: Ints, classes: int) -> float:
    """Mean log-likelihood of labels under the empirical predictor from a source model's own classes, N Z.

    LEEP, arXiv:2002.12462: p(y | x) = sum_z p(y | z) p(z | x), p(y | z) counted from the same images.
    """
    joint = np.zeros((classes, source.shape[1]))
    np.add.at(joint, labels, source)
    conditional = joint / joint.sum(axis=0, keepdims=True).clip(1e-12)
    likely = (source @ conditional.T)[np.arange(len(labels)), labels]
    return float(np.log(likely.clip(1e-12)).mean())
