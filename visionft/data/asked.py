"""`target=`: which columns are to be learnt, and of what kind each is, told from its content unless it was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from visionft.config import suggest
from visionft.errors import ConfigError, DataError

from . import targets
from .records import Table
from .tables import natural
from .targets import NO, NUMBER, UNKNOWN, YES, Classes, Flags, Levels, Number, Target, listed, plain

MOST_LEVELS = 10  # a column of whole numbers with more different ones is a number
AUTO = "auto"


def columns(target: Any) -> dict[str, Any]:
    """Column -> kind as asked for, sorted by name: whatever order they are given in, the run is the same.

    `target` is a name, names (a list, or with commas), or a mapping to kinds: auto, classes, flags, number, levels, or
    a list of names in order, which is levels. On the command line the names come first: `target=a,b target.a=number`.
    """
    kinds = {str(name): kind for name, kind in target.items()} if isinstance(target, Mapping) else {}
    named = kinds.pop("name", None) if isinstance(target, Mapping) else target
    names = [] if named is None else named.split(",") if isinstance(named, str) else named
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ConfigError(f"target={target!r} names no columns; say target=depth_mm or target=scratch,dent")
    names = [name.strip() for name in names]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"target names {twice[0]} twice")
    if names and (stray := next((name for name in kinds if name not in names), None)):
        raise ConfigError(f"target.{stray} is not among the columns of target{suggest(stray, names)}")
    found = {name: kinds.get(name, AUTO) for name in names or kinds}
    for name, kind in found.items():
        if not isinstance(kind, list | tuple) and kind not in (AUTO, *targets.KINDS):
            hint = suggest(str(kind), [AUTO, *targets.KINDS])
            raise ConfigError(f"target.{name}={kind} is no kind of target{hint}")
    if not found:
        raise ConfigError("target names no columns; say target=depth_mm or target=scratch,dent")
    return dict(sorted(found.items()))


def infer(table: Table, asked: Mapping[str, Any]) -> tuple[Target, ...]:
    """What each column holds. Raises DataError for a column that is not there, or teaches nothing."""
    return tuple(_checked(_target(table, name, kind), table) for name, kind in asked.items())


def words(target: Target, table: Table) -> str:
    """What a column was taken for, for the user to contradict."""
    texts = targets.cells(table, target.column)
    unknown = sum(cell == (UNKNOWN if isinstance(target, Flags) and target.listed else "") for cell in texts)
    return f"{target.column}: {_kind(target, texts)}" + (f"; {unknown} of {len(texts)} unknown" if unknown else "")


def _kind(target: Target, texts: Sequence[str]) -> str:
    match target:
        case Number():
            found = [float(cell) for cell in texts if cell]
            return f"a number, {min(found):g} to {max(found):g}"
        case Levels():
            return f"levels, {' < '.join(target.names)} (target.{target.column}=classes if they have no order)"
        case Flags(listed=True):
            return f"flags {', '.join(target.names)}; an empty cell is none of them, {UNKNOWN} is unknown"
        case Flags():
            return f"a flag, {sum(cell.lower() in YES for cell in texts)} of {sum(map(bool, texts))} set"
        case Classes():
            return f"classes {', '.join(target.names)}"
    raise NotImplementedError(target.kind)


def _target(table: Table, column: str, kind: Any) -> Target:
    texts = targets.cells(table, column)
    found = {cell for cell in texts if cell}
    if not found:
        raise DataError(f"{table.source}: column {column} is empty")
    if isinstance(kind, list | tuple):
        return Levels(column, names=tuple(map(str, kind)))
    kind = _guess(table, column, found) if kind == AUTO else kind
    if kind == "number":
        return Number(column)
    if kind == "flags":
        if {cell.lower() for cell in found} <= {*YES, *NO}:
            return Flags(column, names=(column,))
        names = {name for cell in found - {UNKNOWN} for name in listed(cell)}
        return Flags(column, names=tuple(sorted(names, key=natural)), listed=True)
    if kind == "levels":
        return Levels(column, names=tuple(sorted({plain(cell) for cell in found}, key=_order)))
    return Classes(column, names=tuple(sorted(found, key=natural)))


def _guess(table: Table, column: str, found: set[str]) -> str:
    """From the different words of a column."""
    if {cell.lower() for cell in found} <= {*YES, *NO}:
        return "flags"
    if any("|" in cell for cell in found):
        return "flags"
    numbers = {cell for cell in found if NUMBER.fullmatch(cell)}
    if 2 * len(numbers) <= len(found):
        return "classes"
    if numbers < found:
        odd = [(record, repr(cell)) for record, cell in zip(table, targets.cells(table, column), strict=True)
               if cell and cell not in numbers]  # fmt: skip
        way = f"; most are numbers: leave unknown ones empty, or say target.{column}=classes if these are names"
        targets.refuse(table, column, odd, way)
    values = {float(cell) for cell in numbers}
    return "levels" if len(values) <= MOST_LEVELS and all(v.is_integer() for v in values) else "number"


def _order(name: str) -> tuple[bool, float, list[tuple[int, str]]]:
    return (False, float(name), []) if NUMBER.fullmatch(name) else (True, 0.0, natural(name))


def _checked(target: Target, table: Table) -> Target:
    """Raise DataError unless every cell can be read and two different values are there."""
    values = targets.encode([target], table)
    if not any(len({*column[column == column].tolist()}) > 1 for column in values.T):
        raise DataError(f"{table.source}: column {target.column} says the same of every image; nothing can be learnt")
    return target
