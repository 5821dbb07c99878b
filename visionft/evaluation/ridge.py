"""A linear probe for numbers: ridge regression on frozen features, its penalty chosen by leaving each sample out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from visionft.errors import DataError

from .folds import kin
from .probe import FALLBACK, Probe, scaling

TINY = 1e-12  # how little of a residual may be a sample's own, lest it be divided by nothing
GRID = tuple(10.0**e for e in np.arange(1, -5.01, -0.25))


def fit_ridge(
    features: Tensor, values: Tensor, *, l2: float | None = None, groups: Sequence[str] | None = None
) -> Probe:
    """Minimise mean (value - answer)² / 2 + l2/2 ||w||² over scaled features; without `l2`, choose it.

    Features N D, values N, all finite. Features are scaled as `fit_probe` scales them, which makes it scikit-learn's
    Ridge at alpha = l2 N. Leaving samples out has a closed form: their residuals r become (I - H)⁻¹ r, where H is the
    weight they have in their own answers. Each is left out with its copies, and with its group where `groups` (N) names
    one for each; `cv` holds the mean squares. Raises DataError for values not finite.
    """
    if not (features.isfinite().all() and values.isfinite().all()) or len(values) < 2:
        raise DataError("ridge regression needs two samples or more, with finite features and values")
    mean, scale = scaling(features)
    z, y = (features.double() - mean) / scale, values.double()
    middle, n = y.mean(), len(y)
    u, s, v = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    seen = u.T @ (y - middle)  # the values along the principal directions
    heads, unit = kin(features, groups).unique(return_inverse=True)
    several = [(unit == h).nonzero().flatten() for h in (unit.bincount() > 1).nonzero().flatten()]

    def squares(penalty: float) -> float:
        shrunk = s**2 / (s**2 + n * penalty)
        rest = y - middle - u @ (shrunk * seen)
        left = rest / (1 - 1 / n - u**2 @ shrunk).clamp_min(TINY)
        for one in several:
            own = (1 + TINY) * torch.eye(len(one), dtype=u.dtype) - 1 / n - u[one] * shrunk @ u[one].T
            left[one] = torch.cholesky_solve(rest[one, None], torch.linalg.cholesky(own))[:, 0]
        return float(left.square().mean())

    cv = {penalty: squares(penalty) for penalty in GRID} if l2 is None and len(heads) > 1 else {}
    l2 = min(cv, key=cv.__getitem__, default=FALLBACK) if l2 is None else l2
    weight = v.T @ (s / (s**2 + n * l2) * seen) / scale
    bias = middle - weight @ (mean + scale * z.mean(0))
    return Probe(weight[None].float(), bias[None].float(), l2, cv)
