"""A few points that are near all the others: greedy k-centre, so that a bank of patches keeps what is rare."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 16  # at least: with fewer, points are chosen without knowing of one another (see `batch`)
WIDEST = 256  # points chosen in a round at most
AT_ONCE = 1 << 24  # distances held at once: 64 MB
POOL = 4  # times a batch: the farthest points, among which a round chooses one after the other


def coreset(
    points: Tensor,
    k: int,
    *,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Places (k) of points (N D) such that the farthest other point is nearly as close as k points allow.

    Gonzalez 1985: each next centre is the point farthest from all before it; the first is the one nearest to the mean.
    No chance is involved. With batch=1 this is the exact greedy choice. Otherwise a round takes `batch` centres from
    the `POOL * batch` farthest points, exactly among those, and only then measures all points again; None takes as many
    as leave ROUNDS rounds, up to WIDEST. At k >= N all places are returned, in order.
    """
    n = len(points)
    if k >= n:
        return torch.arange(n)
    batch = min(WIDEST, max(1, k // ROUNDS)) if batch is None else batch
    norms = points.square().sum(1)
    first = squared(points, norms, points.mean(0, keepdim=True)).argmin().view(1)
    chosen, near, count = [first], torch.full_like(norms, torch.inf), 1
    while count < k:
        near = torch.minimum(near, squared(points, norms, points[chosen[-1]]))
        near[chosen[-1]] = -torch.inf  # rounding must not offer a centre again
        chosen.append(_farthest(points, near, min(batch, k - count)))
        count += len(chosen[-1])
        if progress:
            progress(count, k)
    return torch.cat(chosen)


def radius(points: Tensor, centres: Tensor) -> float:
    """How far the farthest point (N D) is from its nearest centre (k D)."""
    norms = points.square().sum(1)
    return float(squared(points, norms, centres).max().clamp_min(0).sqrt())


def _farthest(points: Tensor, near: Tensor, count: int) -> Tensor:
    """Choose so many of the farthest points, each knowing of those chosen before it; near: N squared distances."""
    pool = near.topk(min(POOL * count, len(near))).indices if count > 1 else near.argmax().view(1)
    if count == 1:
        return pool
    own, left = points[pool], near[pool].clone()
    apart = torch.cdist(own, own).square()
    found = []
    for _ in range(count):
        at = int(left.argmax())
        found.append(at)
        left = torch.minimum(left, apart[at])
        left[at] = -torch.inf
    return pool[torch.tensor(found, device=pool.device)]


def squared(points: Tensor, norms: Tensor, centres: Tensor) -> Tensor:
    """N: squared distance of every point to the nearest of some centres, by matrix products."""
    own, rows = centres.square().sum(1), max(1, AT_ONCE // len(centres))
    near = [torch.addmm(own, part, centres.T, alpha=-2).amin(1) for part in points.split(rows)]
    return torch.cat(near) + norms
