"""From what the user named to clean records and decoded pixels: read, scan, decode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from visionft.config import load, suggest
from visionft.errors import ConfigError
from visionft.log import Console
from visionft.objective import View
from visionft.recipe import Photos

from .cache import cached
from .decode import Reading
from .records import Table
from .scan import Scan, scan
from .sources import read
from .split import split


class Chosen(Sequence[np.ndarray]):
    """Some of the pixels, in another order, without a copy."""

    def __init__(self, pixels: Sequence[np.ndarray], indices: Iterable[int]) -> None:
        self.pixels, self.indices = pixels, [int(i) for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self.pixels[self.indices[index]]


@dataclass(frozen=True)
class Prepared:
    """Clean records, what the scan found, and the decoded pixels of each record."""

    table: Table
    scan: Scan
    pixels: Sequence[np.ndarray]

    def part(self, indices: Iterable[int]) -> tuple[Table, Sequence[np.ndarray]]:
        """The records at these places and their pixels."""
        places = [int(i) for i in indices]
        return self.table.take(places), Chosen(self.pixels, places)

    def facts(self) -> dict[str, Any]:
        """What run.json says of the data."""
        return {"source": self.table.source, "bad": self.scan.bad, "fingerprint": self.table.fingerprint}


def prepare(images: Photos, console: Console, *, labelled: bool, dry: bool = False) -> Prepared:
    """Read, scan and decode `images.data`, saying what was found. A dry run keeps nothing on disk."""
    if images.data is None:
        raise ConfigError("data is missing: name a folder, a CSV or sample:elpv, e.g. data=photos/")
    how = Reading(channels=images.channels, white=images.white)
    found = scanned(read(images.data, labelled=labelled), console, bad=images.bad, **how)
    return Prepared(found.table, found, decoded(images, found.table, console, dry=dry))


def scanned(
    table: Table, console: Console, *, channels: int, white: int, bad: Literal["error", "skip"] = "error"
) -> Scan:
    """Scan records, saying what was found."""
    found = scan(table, bad=bad, channels=channels, white=white, progress=console.progress("scanning"))
    for line in found.lines():
        console.say(line)
    return found


def decoded(images: Photos, table: Table, console: Console, *, dry: bool = False) -> Sequence[np.ndarray]:
    """The pixels of every record, decoded once, H W C uint8."""
    return cached(
        table,
        edge=images.edge,
        channels=images.channels,
        white=images.white,
        store="off" if dry else images.cache,
        progress=console.progress("decoding"),
    )


def dealt(ready: Prepared, seed: int, test: float = 0.25) -> Prepared:
    """Write a test split into the records, unless the source has one: every stage then holds out the same images."""
    if {"train", "test"} <= {r.split for r in ready.table}:
        return ready
    part = {id(r): name for name, table in split(ready.table, {"test": test}, seed=seed).items() for r in table}
    records = tuple(replace(r, split=part[id(r)]) for r in ready.table)
    return replace(ready, table=replace(ready.table, records=records))


def override(views: Mapping[str, View], changes: Mapping[str, Any]) -> dict[str, View]:
    """Apply a recipe's `views` table to what an objective sees, e.g. {"crops": {"count": 4}}."""
    made = dict(views)
    for name, change in changes.items():
        if name not in views or not isinstance(change, Mapping):
            raise ConfigError(
                f"views.{name} is no view of this objective{suggest(name, views)}; say views.NAME.count=4"
            )
        made[name] = load(View, vars(views[name]), change)
    return made
