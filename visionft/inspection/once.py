"""Every photo once: what is known of a copy says nothing new, and a copy that is learnt flatters its original."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from visionft.data.prepare import Prepared
from visionft.data.records import Table
from visionft.log import Console

SIGNED = 16  # letters of a digest that an inspector keeps of each photo it has learnt from


def once(ready: Prepared, console: Console) -> Prepared:
    """Without photos that have the content of an earlier one."""
    places = firsts(ready.table, console)
    table, pixels = ready.part(places)
    return dataclasses.replace(ready, table=table, pixels=pixels)


def firsts(table: Table, console: Console) -> list[int]:
    """Places of the first photo of each content."""
    first: dict[str, int] = {}
    places = [at for at, record in enumerate(table) if first.setdefault(record.digest, at) == at]
    if left := len(table) - len(places):
        console.say(f"{left} photos are copies of others and left out: a copy proves nothing")
    return places


def signed(table: Table) -> list[str]:
    """What is kept of photos to know them again."""
    return [record.digest[:SIGNED] for record in table]


def known(table: Table, signatures: Iterable[str]) -> Sequence[str]:
    """Names of the photos that have been learnt from."""
    learnt = set(signatures)
    return [record.name for record in table if record.digest[:SIGNED] in learnt]
