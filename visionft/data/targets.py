"""What is to be learnt from a column of a table: a class, flags, a number or a level; text in, numbers out.

Every kind says how it reads a cell (nan where nothing is known), how many numbers a head gives for it, and itself as
plain JSON values, which `of` reads.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from visionft.arrays import Floats
from visionft.config import suggest
from visionft.errors import DataError

from .records import Record, Table

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # float() would also take 1_000, nan and infinity
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
UNKNOWN = "?"  # in a column of lists, where an empty cell is an empty list
SHOWN = 10  # lines named in a message


@dataclass(frozen=True)
class Target:
    """A column, and the share of the training images whose value is known."""

    column: str
    known: float = 1.0
    kind: ClassVar[str]

    @property
    def values(self) -> int:
        """Numbers that a cell is read as."""
        return 1

    @property
    def width(self) -> int:
        """Numbers that a head gives."""
        return 1

    @property
    def answers(self) -> int:
        """Numbers that an answer has: probabilities, or the number itself."""
        return self.width

    def read(self, cell: str) -> list[float]:
        """The numbers of a cell. Raises ValueError saying what is wrong with it."""
        raise NotImplementedError

    def learnt_from(self, values: Floats) -> Target:
        """The same, knowing the values (N V) of the images it is trained on."""
        return replace(self, known=float(np.isfinite(values).mean()))

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; `of` reads them."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Classes(Target):
    """One of several names, without an order."""

    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "classes"

    @property
    def width(self) -> int:
        return len(self.names)

    def read(self, cell: str) -> list[float]:
        return [math.nan if not cell else float(_place(cell, self.names))]


@dataclass(frozen=True)
class Flags(Target):
    """Any of several names at once: `scratch|dent`; or one name, the column's own: 0 or 1."""

    names: tuple[str, ...] = ()
    listed: bool = False
    kind: ClassVar[str] = "flags"

    @property
    def values(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        return len(self.names)

    def read(self, cell: str) -> list[float]:
        if not self.listed:
            return [_flag(cell)]
        if cell == UNKNOWN:
            return [math.nan] * len(self.names)
        there = {_place(name, self.names) for name in listed(cell)}
        return [float(at in there) for at in range(len(self.names))]


@dataclass(frozen=True)
class Number(Target):
    """A number; the head learns (number - mean) / scale, which are those of the training images."""

    mean: float = 0.0
    scale: float = 1.0
    kind: ClassVar[str] = "number"

    def read(self, cell: str) -> list[float]:
        return [number(cell)]

    def learnt_from(self, values: Floats) -> Target:
        found = values[np.isfinite(values)]
        if not len(found) or found.min() == found.max():
            raise DataError(f"{self.column} has no two different numbers among the training images")
        known = super().learnt_from(values)
        return replace(known, mean=float(found.mean()), scale=float(found.std()))  # type: ignore[call-arg]


@dataclass(frozen=True)
class Levels(Target):
    """One of several names in an order, as grades 1 to 5."""

    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "levels"

    @property
    def width(self) -> int:
        """Cuts between neighbours: each asks whether the level lies above."""
        return len(self.names) - 1

    @property
    def answers(self) -> int:
        return len(self.names)

    def read(self, cell: str) -> list[float]:
        if not cell:
            return [math.nan]
        return [float(_place(cell if cell in self.names else plain(cell), self.names))]


KINDS: dict[str, type[Target]] = {one.kind: one for one in (Classes, Flags, Number, Levels)}


def of(facts: Mapping[str, Any]) -> Target:
    """Read what `facts` wrote."""
    words: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k != "kind"}
    return KINDS[facts["kind"]](**words)


def encode(targets: Sequence[Target], table: Table) -> Floats:
    """The values of every record, N V, the targets side by side.

    Raises DataError naming the file, the lines and the column of cells that cannot be read.
    """
    columns = [_column(target, table) for target in targets]
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(table), 0))


def cells(table: Table, column: str) -> list[str]:
    """The words of a column. Raises DataError where the table has no such column, naming the nearest."""
    rows = [record.row.cells if record.row else {} for record in table]
    if any(column not in row for row in rows):
        known = [name for name in (rows[0] if rows else ()) if name]
        way = suggest(column, known) if known else "; columns are those of a CSV, or of (images, {name: values})"
        raise DataError(f"{table.source or 'the table'} has no column {column!r}{way}")
    return [row[column] for row in rows]


def parts(targets: Sequence[Target], what: str = "values") -> list[slice]:
    """Where each target stands among the `values`, the `width` or the `answers` of all."""
    ends = np.cumsum([0, *(getattr(target, what) for target in targets)]).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def number(cell: str) -> float:
    """A finite number, nan for an empty cell. Raises ValueError saying what else it is."""
    if not cell:
        return math.nan
    if not NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
        comma = f"; write {cell.replace(',', '.')}" if NUMBER.fullmatch(cell.replace(",", ".")) else ""
        raise ValueError(f"{cell!r} is not a finite number{comma}")
    return float(cell)


def listed(cell: str) -> list[str]:
    """`scratch | dent` -> scratch, dent."""
    return [name.strip() for name in cell.split("|") if name.strip()]


def plain(cell: str) -> str:
    """A number in its shortest form, so that 1 and 1.0 are one level; other words as they are."""
    return f"{float(cell):.12g}" if NUMBER.fullmatch(cell) else cell


def _flag(cell: str) -> float:
    if cell and cell.lower() not in (*YES, *NO):
        raise ValueError(f"{cell!r} is neither 1 nor 0, true nor false, yes nor no")
    return float(cell.lower() in YES) if cell else math.nan


def _place(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ValueError(f"{name!r} is not among {', '.join(names)}")
    return names.index(name)


def _column(target: Target, table: Table) -> Floats:
    values, wrong = [], []
    for record, cell in zip(table, cells(table, target.column), strict=True):
        try:
            values.append(target.read(cell))
        except ValueError as error:
            wrong.append((record, str(error)))
    if wrong:
        refuse(table, target.column, wrong)
    return np.array(values, np.float64).reshape(len(table), target.values)


def refuse(table: Table, column: str, wrong: Sequence[tuple[Record, str]], way: str = "") -> None:
    """Raise the DataError that names the file, the lines and the column, and the first of what is wrong."""
    lines = [str(record.row.number) if record.row else record.name for record, _ in wrong]
    shown = ", ".join(lines[:SHOWN]) + (", ..." if len(lines) > SHOWN else "")
    raise DataError(
        f"{table.source or 'the table'}, column {column}: {len(wrong)} values cannot be read (line {shown}); "
        f"the first: {wrong[0][1]}{way}"
    )
