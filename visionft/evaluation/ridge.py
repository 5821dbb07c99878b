"""A linear probe for numbers: ridge regression on frozen features, its penalty chosen by leaving each sample out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visionft.errors import DataError

from .probe import Probe, scaling

GRID = tuple(10.0**e for e in np.arange(1, -5.01, -0.25))


def fit_ridge(features: Tensor, values: Tensor, *, l2: float | None = None) -> Probe:
    """Minimise mean (value - answer)² / 2 + l2/2 ||w||² over scaled features; without `l2`, choose it.

    Features N D, values N, all finite. Features are scaled as `fit_probe` scales them, which makes it scikit-learn's
    Ridge at alpha = l2 N. Leaving one sample out has a closed form: its residual grows by 1 / (1 - h), where h is the
    weight it has in its own answer. `cv` holds the mean squares of these. Raises DataError for values not finite.
    """
    if not (features.isfinite().all() and values.isfinite().all()) or len(values) < 2:
        raise DataError("ridge regression needs two samples or more, with finite features and values")
    mean, scale = scaling(features)
    z, y = (features.double() - mean) / scale, values.double()
    middle, n = y.mean(), len(y)
    u, s, v = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    seen = u.T @ (y - middle)  # the values along the principal directions

    def squares(penalty: float) -> float:
        shrunk = s**2 / (s**2 + n * penalty)
        left = (y - middle - u @ (shrunk * seen)) / (1 - 1 / n - u**2 @ shrunk).clamp_min(1e-9)
        return float(left.square().mean())

    cv = {penalty: squares(penalty) for penalty in GRID} if l2 is None else {}
    l2 = min(cv, key=cv.__getitem__) if l2 is None else l2
    weight = v.T @ (s / (s**2 + n * l2) * seen) / scale
    bias = middle - weight @ (mean + scale * z.mean(0))
    return Probe(weight[None].float(), bias[None].float(), l2, cv)
