"""Photos of which it is known whether they are good, else of which kind their defect is and perhaps where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from visionft.annotations.layouts import is_good, read_marked, recognised
from visionft.annotations.marked import GOOD, NO_DEFECT, Marked, plain
from visionft.arrays import Bools
from visionft.config import suggest
from visionft.data.decode import Reading
from visionft.data.prepare import scanned
from visionft.data.records import Table
from visionft.data.scan import Scan
from visionft.data.sources import read
from visionft.errors import DataError
from visionft.log import Console

from .once import firsts


@dataclass(frozen=True)
class Truth:
    """Scanned photos and, for each, its kind: NO_DEFECT or that of its defect."""

    scan: Scan
    kinds: Sequence[str]
    marks: Mapping[str, Marked]  # by the name of the photo; none where the source marks nothing

    @property
    def table(self) -> Table:
        """The photos that can be read."""
        return self.scan.table

    @property
    def groups(self) -> list[str] | None:
        """The group of each photo, where all have one."""
        return self.table.groups if self.table.grouped else None

    @property
    def placed(self) -> bool:
        """Whether it is known of any defect where it is."""
        return any(mark.shapes for mark in self.marks.values())

    def mask(self, at: int, height: int, width: int) -> Bools | None:
        """The defective pixels of a photo (H W), None where they are not known."""
        return self.marks[self.table[at].name].mask(height, width)


def read_truth(
    source: Any, *, good: str | None, images: Reading, bad: Literal["error", "skip"], console: Console
) -> Truth:
    """Read what is to be judged: its test split where it has one, else all.

    A path may hold any layout of `visionft.annotations.layouts`; anything else is what `read` takes, whose classes are
    kinds. `images` says how photos are read. Raises DataError where it is not clear which kind is good.
    """
    path = isinstance(source, (str, Path)) and not str(source).startswith("sample:")
    table, kinds, marks = _marked(source, good) if path else _classes(source, good)
    found = scanned(table, console, bad=bad, **images)
    return Truth(found, [kinds[record.name] for record in found.table], marks)


def _marked(source: str | Path, good: str | None) -> tuple[Table, dict[str, str], dict[str, Marked]]:
    records = read_marked(source, good=good)
    records = [record for record in records if record.split == "test"] or records
    groups = [record.group for record in records]
    table = Table.of([record.image for record in records], groups=groups, source=str(source))
    kinds = {row.name: record.kind for row, record in zip(table, records, strict=True)}
    return table, kinds, {row.name: record for row, record in zip(table, records, strict=True)}


def _classes(source: Any, good: str | None) -> tuple[Table, dict[str, str], dict[str, Marked]]:
    table = read(source, labelled=True)
    if any(record.split == "test" for record in table):
        table = table.take(at for at, record in enumerate(table) if record.split == "test")
    names = GOOD if good is None else {plain(good)}
    called = [name for name in table.classes if is_good(name, names)]
    if len(called) != 1:
        hint = suggest(good, table.classes) if good else f"; say which: good=NAME, one of {', '.join(table.classes)}"
        raise DataError(f"{table.source} has {len(called)} classes that are good{hint}")
    said = [NO_DEFECT if name == called[0] else name for name in table.classes]
    return table, {r.name: said[int(label)] for r, label in zip(table, table.labels, strict=True)}, {}


def read_defects(source: Any, *, images: Reading, bad: Literal["error", "skip"], console: Console) -> Truth:
    """Read photos of defects: of annotations those that are not good, of anything else all, whose folders are kinds."""
    if isinstance(source, (str, Path)) and recognised(source):
        marks = [record for record in read_marked(source) if not record.good]
        table = Table.of([record.image for record in marks], source=str(source))
        kinds = {row.name: record.kind for row, record in zip(table, marks, strict=True)}
    else:
        table = read(source, labelled=False)
        kinds = {row.name: row.image.parent.name if isinstance(row.image, Path) else "defect" for row in table}
    found = scanned(table, console, bad=bad, **images)
    found = dataclasses.replace(found, table=found.table.take(firsts(found.table, console)))
    return Truth(found, [kinds[record.name] for record in found.table], {})
