"""Deal a table into train, val and test: stratified, duplicates and groups kept together, the same for the same seed.

Which side an image falls on depends on the seed and on image contents (names where a table was not scanned), not on
the order of the records: renaming or reordering a scanned folder changes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from visionft.data.records import Record, Table
from visionft.errors import DataError

TRIES = 32  # orders in which whole groups are dealt; the most even deal is kept


def split(table: Table, fractions: Mapping[str, float], *, seed: int, by_group: bool = False) -> dict[str, Table]:
    """Split off these fractions by name ({"val": 0.15, "test": 0.25}); what remains is "train".

    Every stratum (a class, or a class within a group) is dealt to within one image of its exact share, unless a class
    is so rare that each part needs one. With `by_group` no group straddles two parts; shares are then as near as
    whole groups allow. Parts that the source itself names are left as they are, and missing ones taken from its train.
    """
    shares = _shares(fractions)
    given = {name: [at for at, record in enumerate(table) if record.split == name] for name in ("train", "val", "test")}
    if any(given.values()):
        free = [at for at, record in enumerate(table) if record.split in (None, "train")]
        kept = {name: places for name, places in given.items() if name != "train" and places}
        shares = {name: share for name, share in shares.items() if name not in kept and name != "train"}
        shares = {"train": 1 - sum(shares.values()), **shares}
    else:
        free, kept = list(range(len(table))), {}
    if not free:
        raise DataError(f"{table.source or 'the table'} leaves no images for train")
    dealt = _deal(table, free, shares, seed, by_group) if len(shares) > 1 else {"train": free}
    return {name: table.take(sorted(places)) for name, places in {**dealt, **kept}.items()}


def first_of_each(table: Table, fraction: float, *, seed: int, least: int = 2) -> list[int]:
    """Choose a share of every class: places, ascending; a larger share holds a smaller one.

    At least `least` different images; copies of an image come along with it.
    """
    classes: dict[int | None, list[list[int]]] = defaultdict(list)
    units = _units(table, list(range(len(table))), by_group=False)
    for unit in sorted(units, key=lambda unit: _key(table, unit, seed)):
        classes[table[unit[0]].label].append(unit)
    chosen = (unit for own in classes.values() for unit in own[: max(least, round(fraction * len(own)))])
    return sorted(itertools.chain.from_iterable(chosen))


def folds(table: Table, count: int, *, seed: int, by_group: bool = False) -> list[list[int]]:
    """Deal all records to so many equal parts, as `split` deals them: places, ascending, whatever split they name."""
    shares = {f"fold {fold}": 1 / count for fold in range(count)}
    dealt = _deal(table, list(range(len(table))), shares, seed, by_group)
    return [sorted(dealt[name]) for name in shares]


def _shares(fractions: Mapping[str, float]) -> dict[str, float]:
    rest = 1 - sum(share for name, share in fractions.items() if name != "train")
    if (
        any(share <= 0 for share in fractions.values())
        or rest <= 1e-9
        or abs(fractions.get("train", rest) - rest) > 1e-6
    ):
        raise DataError(f"the fractions {dict(fractions)} must be above 0 and leave some images for train")
    return {"train": rest, **{name: share for name, share in fractions.items() if name != "train"}}


def _deal(table: Table, places: list[int], shares: dict[str, float], seed: int, by_group: bool) -> dict[str, list[int]]:
    units = _units(table, places, by_group)
    _check(table, units, shares, by_group)
    ordered = sorted(units, key=lambda unit: _key(table, unit, seed))
    parts = _deal_groups(table, ordered, shares, seed) if by_group else _deal_strata(table, ordered, shares)
    return {name: [place for unit in parts[name] for place in unit] for name in shares}


def _units(table: Table, places: list[int], by_group: bool) -> list[list[int]]:
    """Records that must stay together: the same content and, by group, the same group; and so on through both."""
    parent = {place: place for place in places}

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    first: dict[tuple[str, str], int] = {}
    for place in places:
        record = table[place]
        ties = [("content", record.digest)] if record.digest else []
        if by_group:
            if record.group is None:
                raise DataError(f"{record.name} has no group, so the table cannot be split by group")
            ties.append(("group", record.group))
        for tie in ties:
            parent[root(place)] = root(first.setdefault(tie, place))
    units: dict[int, list[int]] = defaultdict(list)
    for place in places:
        units[root(place)].append(place)
    return list(units.values())


def _key(table: Table, unit: Sequence[int], seed: int) -> bytes:
    """A number drawn for a unit from the seed and its contents alone."""
    text = min(table[place].digest or table[place].name for place in unit)
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).digest()


def _check(table: Table, units: list[list[int]], shares: dict[str, float], by_group: bool) -> None:
    what = "groups" if by_group else "different images"
    has = Counter(label for unit in units for label in {table[place].label for place in unit})
    for label, count in sorted(has.items(), key=lambda item: -1 if item[0] is None else item[0]):
        if count < len(shares):
            name = "the table" if label is None else f"class {table.classes[label]!r}"
            parts = ", ".join(shares) if "train" in shares else f"{len(shares)} folds"
            raise DataError(
                f"{name} has {count} {what}: too few to have some in each of {parts}; "
                f"add some, or leave {'them' if label is None else 'the class'} out"
            )


def _stratum(record: Record) -> tuple[int, str]:
    return (-1 if record.label is None else record.label, record.group or "")


def _deal_strata(table: Table, units: Sequence[list[int]], shares: dict[str, float]) -> dict[str, list[list[int]]]:
    """Give every part its share of every stratum, rounded so that what one stratum rounds off the next makes up."""
    strata: dict[tuple[int, str], list[list[int]]] = defaultdict(list)
    for unit in units:
        strata[min(_stratum(table[place]) for place in unit)].append(unit)
    share = np.array(list(shares.values()))
    carry = np.zeros(len(shares))
    counts: dict[tuple[int, str], np.ndarray] = {}
    for stratum in sorted(strata):
        exact = share * len(strata[stratum])
        counts[stratum] = _rounded(exact, carry)
        carry += exact - counts[stratum]
    _leave_no_part_without(counts)
    parts: dict[str, list[list[int]]] = {name: [] for name in shares}
    for stratum in sorted(strata):
        bounds = np.cumsum(counts[stratum])[:-1].tolist()
        pieces = zip([0, *bounds], [*bounds, len(strata[stratum])], strict=True)
        for name, (start, end) in zip(shares, pieces, strict=True):
            parts[name] += strata[stratum][start:end]
    return parts


def _rounded(exact: np.ndarray, carry: np.ndarray) -> np.ndarray:
    """Round each share down or up, keeping the sum, where most is owed from before."""
    low = np.floor(exact + 1e-9).astype(int)
    owed = np.where(exact - low > 1e-9, exact - low + carry, -np.inf)
    low[np.argsort(-owed, kind="stable")[: round(exact.sum()) - low.sum()]] += 1
    return low


def _leave_no_part_without(counts: dict[tuple[int, str], np.ndarray]) -> None:
    """See that a rare class has at least one image in every part."""
    for label in {label for label, _ in counts}:
        rows = [row for (own, _), row in counts.items() if own == label]
        for part in range(len(rows[0])):
            if sum(row[part] for row in rows) == 0:
                total = np.sum(rows, axis=0)
                giver = int(total.argmax())
                row = max(rows, key=lambda row: int(row[giver]))
                row[giver] -= 1
                row[part] += 1


def _deal_groups(
    table: Table, units: Sequence[list[int]], shares: dict[str, float], seed: int
) -> dict[str, list[list[int]]]:
    """Deal whole groups, each to the part furthest behind in its classes, and keep the most even of several deals."""
    labels = sorted({_stratum(table[place])[0] for place in itertools.chain(*units)})
    counts = [Counter(_stratum(table[place])[0] for place in unit) for unit in units]
    sizes = np.array([[*(count[label] for label in labels), count.total()] for count in counts])  # units x classes, all
    goal = np.outer(list(shares.values()), sizes.sum(0))  # parts x classes, all
    weight = 1 / sizes.sum(0)
    draw = np.random.default_rng(seed)
    best, best_cost = [0] * len(units), np.inf
    for _ in range(TRIES):
        order = np.argsort(-sizes[:, -1] * draw.uniform(0.5, 1, len(units)), kind="stable")  # large ones first, roughly
        owner, cost = _greedy(sizes, goal, weight, order)
        if cost < best_cost:
            best, best_cost = owner, cost
    if best_cost >= 1e9:
        raise DataError("no way was found to deal whole groups so that every part has every class; use fewer parts")
    return {
        name: [unit for unit, own in zip(units, best, strict=True) if own == part] for part, name in enumerate(shares)
    }


def _greedy(sizes: np.ndarray, goal: np.ndarray, weight: np.ndarray, order: np.ndarray) -> tuple[list[int], float]:
    have = np.zeros_like(goal)
    owner = [0] * len(sizes)
    for unit in order:
        after = have + sizes[unit] - goal
        gain = ((after**2 - (have - goal) ** 2) * weight).sum(1)
        owner[unit] = int(gain.argmin())
        have[owner[unit]] += sizes[unit]
    return owner, float((((have - goal) ** 2) * weight).sum() + 1e9 * (have == 0).sum())
