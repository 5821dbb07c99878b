"""Who is held out together: copies of an image, and images of a group, are never learnt from and judged by at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def copies(features: Tensor) -> Tensor:
    """The place of the first sample with the very same features as each: of N D, N int64."""
    first: dict[bytes, int] = {}
    rows = features.detach().cpu().contiguous().numpy()
    return torch.tensor([first.setdefault(row.tobytes(), at) for at, row in enumerate(rows)], dtype=torch.int64)


def kin(features: Tensor, groups: Sequence[str] | None = None) -> Tensor:
    """The place of the first sample that each belongs with: its copies and, of named groups, its group; N int64.

    So on through both: a copy in another group ties the two groups together.
    """
    first = same = copies(features)
    if groups is None:
        return first
    group = places(groups)
    while True:  # the smallest place spreads until nothing changes
        found = first
        for tie in (group, same):
            found = torch.full_like(first, len(first)).scatter_reduce(0, tie, found, "amin")[tie]
        if found.equal(first):
            return first
        first = found


def places(groups: Sequence[str]) -> Tensor:
    """The place of the first sample of each one's group: N int64."""
    first: dict[str, int] = {}
    return torch.tensor([first.setdefault(name, at) for at, name in enumerate(groups)], dtype=torch.int64)


def fold_of(labels: Tensor, folds: int, seed: int, first: Tensor | None = None) -> Tensor:
    """Deal samples to folds class by class, so that folds have equal shares; -1 marks samples that are never held out.

    Those are a class's only sample, or all that belong with it: every training part has every class. Samples of which
    `first` (N, see `kin`) says the same stay together: what is learnt of one would tell of the one held out.
    """
    first = torch.arange(len(labels)) if first is None else first
    if not labels[first].equal(labels):
        return _mixed(labels, max(2, folds), seed, first)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    shuffled = shuffled[first[shuffled] == shuffled]
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    by_class = by_class[labels[shuffled].bincount()[labels[by_class]] > 1]
    fold = torch.full_like(labels, -1)
    fold[by_class] = torch.arange(len(by_class)) % max(2, folds)
    return fold[first]


def _mixed(labels: Tensor, folds: int, seed: int, first: Tensor) -> Tensor:
    """The same for units of several classes: the largest first, each to the fold that has least of its classes."""
    heads, unit = first.unique(return_inverse=True)
    share = torch.zeros(len(heads), int(labels.max()) + 1).index_add_(0, unit, F.one_hot(labels).float())  # U C
    share /= share.sum(0).clamp_min(1)
    order = torch.randperm(len(heads), generator=torch.Generator().manual_seed(seed))
    order = order[unit.bincount()[order].argsort(descending=True, stable=True)]
    have, own = share.new_zeros(folds, share.shape[1]), torch.full((len(heads),), -1)
    for u in order:
        own[u] = ((have + share[u]).square() - have.square()).sum(1).argmin()
        have[own[u]] += share[u]
    for c in (share.sum(0) > 0).nonzero().flatten():  # a class that lies in one fold would be missed by the others
        units = (share[:, c] > 0).nonzero().flatten()
        if len(own[units].unique()) == 1 and own[units[0]] >= 0:
            own[units[share[units, c].argmax()]] = -1
    used = own[own >= 0].unique()
    dealt = torch.full((folds + 1,), -1)  # the last place is that of -1
    dealt[used] = torch.arange(len(used))
    return dealt[own][unit] if len(used) > 1 else torch.full_like(labels, -1)
