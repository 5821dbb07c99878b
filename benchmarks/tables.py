"""Cells and tables of what was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness import RESULTS

Rows = Sequence[Mapping[str, Any]]


def rows_of(name: str) -> Rows:
    """Rows of a file of results, each with its machine; none where there is no file."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text())
    return [{"machine": found["machine"], **row} for row in found["rows"]]


def signed(row: Mapping[str, Any], name: str) -> str:
    """A difference and its interval, where the row has it."""
    return told(row, name, "+") if name in row else ""


def machine(row: Mapping[str, Any]) -> str:
    """Its processor in words, and how many of its cores were used."""
    found = row["machine"]
    cpu = found["cpu"].replace("(R)", "").replace(" Processor", "")
    used = "one core" if found["threads"] == 1 else f"{found['cores']} cores"
    return f"{used} of an {cpu}"


def by_machine(rows: Rows, table: Callable[[Rows], Sequence[str]]) -> list[str]:
    """The table of each machine's rows, below its processor in words."""
    found = list[str]()
    for where in dict.fromkeys(map(machine, rows)):
        found += ["", f"{where}:", "", *table([row for row in rows if machine(row) == where])]
    return found


def median(values: Iterable[float], digits: int = 0) -> str:
    """Nothing of no values."""
    found = list(values)
    return f"{statistics.median(found):.{digits}f}" if found else ""


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def of(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(map(str, row))} |" for row in (headers, ["---"] * len(headers), *rows)]


def mean(rows: Rows, key: str) -> str:
    """Over rows, with the standard deviation where there are several."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    return f"{values[0]:.3f}" if len(values) == 1 else spread(values)


def told(row: Mapping[str, Any], key: str, sign: str) -> str:
    """A value and its interval."""
    return f"{row[key]:{sign}.3f} ({row[f'{key}_low']:{sign}.3f} to {row[f'{key}_high']:{sign}.3f})"
