"""A linear probe for levels: one direction and a cut between every two neighbours (CORAL, arXiv:1901.07884)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.errors import DataError

from .folds import fold_of, kin
from .probe import GRID, Probe, scaling


def fit_ordinal(
    features: Tensor,
    levels: Tensor,
    *,
    count: int,
    l2: float | None = None,
    folds: int = 4,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Probe:
    """Minimise the mean, over samples and cuts, of binary cross-entropy + l2/2 ||w||² over scaled features.

    Features N D, levels N of 0 .. count - 1; `weight` 1 D, `bias` K-1: whether a level lies above cut k has the logit
    w z + b_k. Without `l2` it is cross-validated, by `groups` (N) if they are named. A cut with all samples on one side
    stands as if half a sample had been on the other, next to the nearest fitted one. Raises DataError where all levels
    are one.
    """
    if len(levels) == 0 or int(levels.min()) == int(levels.max()):
        raise DataError("a probe of levels needs samples of at least two of them")
    mean, scale = scaling(features)
    z = ((features.double() - mean) / scale).float()
    above = (levels[:, None] > torch.arange(count - 1)).float()  # N K-1
    cv = {} if l2 is not None else _cross_validate(z, above, fold_of(levels, folds, seed, kin(features, groups)))
    l2 = l2 if l2 is not None else min(cv, key=cv.__getitem__) if cv else 3e-2
    weight, bias = minimise(z, above, l2)
    weight = (weight.double() / scale).float()
    return Probe(weight[None], (bias.double() - weight.double() @ mean.double()).float(), l2, cv)


def minimise(z: Tensor, above: Tensor, l2: float, tolerance: float = 1e-6) -> tuple[Tensor, Tensor]:
    """The direction D and the cuts K-1 for scaled features, by L-BFGS."""
    yes = above.sum(0)
    told = ((yes > 0) & (yes < len(z))).nonzero().flatten()
    truth = above[:, told]
    weight, cuts = z.new_zeros(z.shape[1]), (yes[told] / (len(z) - yes[told])).log()
    optimizer = torch.optim.LBFGS([weight, cuts], max_iter=500, history_size=20, tolerance_grad=tolerance,
                                  tolerance_change=0, line_search_fn="strong_wolfe")  # fmt: skip

    def objective() -> float:  # the gradient by hand: it works under inference_mode, too
        logits = (z @ weight)[:, None] + cuts
        excess = (logits.sigmoid() - truth) / truth.numel()
        weight.grad, cuts.grad = z.T @ excess.sum(1) + l2 * weight, excess.sum(0)
        cost = F.binary_cross_entropy_with_logits(logits, truth)
        return float(cost + l2 / 2 * weight.square().sum())

    optimizer.step(objective)
    return weight, _complete(cuts, told, yes, len(z))


def _complete(cuts: Tensor, told: Tensor, yes: Tensor, n: int) -> Tensor:
    bias = cuts.new_zeros(len(yes))
    bias[told] = cuts
    low, high = int(told[0]), int(told[-1])
    bias[:low] = bias[low] - math.log(0.5 / float(n - yes[low]))
    bias[high + 1 :] = bias[high] + math.log(0.5 / float(yes[high]))
    return bias


def _cross_validate(z: Tensor, above: Tensor, fold: Tensor) -> dict[float, float]:
    """Mean held-out cost for each l2 of the grid, from strong to weak, until weaker has been worse twice."""
    cv: dict[float, float] = {}
    parts = [(fold != f, fold == f) for f in range(int(fold.max()) + 1)]
    for l2 in GRID if parts else ():
        total = 0.0
        for train, held in parts:
            weight, bias = minimise(z[train], above[train], l2, tolerance=1e-4)
            logits = (z[held] @ weight)[:, None] + bias
            total += float(F.binary_cross_entropy_with_logits(logits, above[held], reduction="none").mean(1).sum())
        cv[l2] = total / int((fold >= 0).sum())
        if min(list(cv.values())[-2:]) > min(cv.values()):
            break
    return cv
