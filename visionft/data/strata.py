"""Which images are alike, when several columns are learnt: what train, val and test shall have in equal shares."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from visionft.arrays import Floats, Ints

from .records import Table
from .targets import Classes, Flags, Levels, Number, Target, parts

QUANTILES = 5  # strata of a number
LEAST = 3  # different images that a stratum needs: one for each of train, val and test


def stratified(table: Table, targets: Sequence[Target], values: Floats) -> Table:
    """The table with strata in place of labels, for `split` to deal by.

    Strata are the classes of the first column of classes; else, image by image, the rarest of all flags that are set;
    else levels; else fifths of the first number. One with too few images joins the commonest.
    """
    found = _strata(targets, values)
    contents = defaultdict(set)
    for record, stratum in zip(table, found.tolist(), strict=True):
        contents[stratum].add(record.digest or record.name)
    common = max(contents, key=lambda stratum: (len(contents[stratum]), stratum))
    kept = {s: s if len(own) >= LEAST else common for s, own in contents.items()}
    names = {s: at for at, s in enumerate(sorted(set(kept.values())))}
    records = tuple(replace(r, label=names[kept[s]]) for r, s in zip(table, found.tolist(), strict=True))
    return replace(table, records=records, classes=tuple(f"stratum {s}" for s in names))


def _strata(targets: Sequence[Target], values: Floats) -> Ints:
    """N: -1 stands for none of the flags, or a value that is not known."""
    places = {kind: [at for target, at in zip(targets, parts(targets), strict=True) if isinstance(target, kind)]
              for kind in (Classes, Flags, Levels, Number)}  # fmt: skip
    if places[Flags] and not places[Classes]:
        return _rarest(np.concatenate([values[:, at] for at in places[Flags]], axis=1))
    for kind in (Classes, Levels):
        if places[kind]:
            return np.nan_to_num(values[:, places[kind][0]][:, 0], nan=-1).astype(np.int64)
    number = values[:, places[Number][0]][:, 0]
    known = np.isfinite(number)
    edges = np.unique(np.quantile(number[known], np.arange(1, QUANTILES) / QUANTILES))
    return np.where(known, np.searchsorted(edges, number, side="right"), -1)


def _rarest(flags: Floats) -> Ints:
    """N F of 0, 1 and nan -> of the flags that are set, the one that fewest images have."""
    count = Counter({at: int((column == 1).sum()) for at, column in enumerate(flags.T)})
    rank = np.array([count[at] + at / (1 + flags.shape[1]) for at in range(flags.shape[1])])
    among = np.where(flags == 1, rank, np.inf)
    return np.where(np.isfinite(among.min(axis=1)), among.argmin(axis=1), -1)
