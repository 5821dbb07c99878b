"""What should each eye count? As before, unless labelled defects say otherwise."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from visionft.arrays import Floats

PULL = 1.0  # of the weights before, as many defects count


def weighed(good: Floats, bad: Floats, prior: Floats, *, pull: float = PULL) -> Floats:
    """Weights of E eyes, none below 0, from scores of N good and M defective images in units of good ones' spread.

    Logistic regression in which good and defective images count the same as a whole, with a ridge that pulls towards
    the weights before: `pull` / M times half the squared difference, as a prior does that is worth `pull` defects. Few
    defects then move little but where they must: AUROC on other defects, means of ten draws of 6, 20 and 100 defects,
    rose from .717 to .991, .995 and .995 on cloth, from .960 to .961, .963 and .964 on magnetic tiles, and fell from
    .904 to .902, .901 and .903 on solar cells. Twice the pull: .987, .994 and .996; .962, .963 and .964; .903, .902 and
    .903. A pull of .3 whatever M left 100 defects of cloth at .992; one that cross-validation chose was no better.
    """
    x, ridge = np.concatenate([good, bad]), pull / len(bad)
    sign = np.concatenate([np.full(len(good), -1.0), np.full(len(bad), 1.0)])
    share = np.concatenate([np.full(len(good), 0.5 / len(good)), np.full(len(bad), 0.5 / len(bad))])

    def loss(at: Floats) -> tuple[float, Floats]:
        weights, bias = at[:-1], at[-1]
        margin = sign * (x @ weights + bias)
        slope = -sign * share / (1 + np.exp(np.minimum(margin, 500)))
        value = (share * np.logaddexp(0, -margin)).sum() + ridge / 2 * ((weights - prior) ** 2).sum()
        return float(value), np.append(x.T @ slope + ridge * (weights - prior), slope.sum())

    bounds = [(0, None)] * len(prior) + [(None, None)]
    found: Floats = minimize(loss, np.append(prior, -1.0), jac=True, method="L-BFGS-B", bounds=bounds).x[:-1]
    return found
