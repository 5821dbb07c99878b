"""A CSV file with the columns path, label, group and split, under the names that people give them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from visionft.data.records import Record, Row, Table
from visionft.errors import DataError

COLUMNS = {  # meaning -> column names in order of preference
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img"),
    "label": ("label", "class", "target", "category", "class_name", "y"),
    "group": ("group", "part", "patient", "lot", "batch", "module", "serial", "type"),
    "split": ("split", "subset", "set", "partition"),
}
SPLITS = {  # names of the parts of a data set -> ours
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers by value: cell2 before cell10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def read_csv(file: Path, *, labelled: bool) -> Table:
    """Read a CSV (comma, semicolon or tab; paths relative to its folder), checking every row before any is used."""
    lines, first = _rows(file)
    place = {meaning: _find(first, names) for meaning, names in COLUMNS.items()}
    needed = ("path", "label") if labelled else ("path",)
    for meaning in needed:
        if place[meaning] is None:
            also = ", ".join(COLUMNS[meaning][1:])
            raise DataError(f"{file} needs a column {meaning} (or {also}); its first line has: {', '.join(first)}")
    short = [number for number, row in lines if len(row) != len(first)]
    _refuse(file, short, f"do not have the {len(first)} columns of the first line")
    cells = [{key: row[at].strip() if at is not None else "" for key, at in place.items()} for _, row in lines]
    rows = [Row(number, dict(zip(first, map(str.strip, row), strict=True))) for number, row in lines]
    return _table(file, rows, cells, labelled)


def _table(file: Path, rows: list[Row], cells: list[dict[str, str]], labelled: bool) -> Table:
    paths = [file.parent / cell["path"] for cell in cells]
    pairs = [(row.number, cell) for row, cell in zip(rows, cells, strict=True)]
    _refuse(file, [number for number, cell in pairs if not cell["path"]], "have no path")
    missing = [row.number for row, path in zip(rows, paths, strict=True) if not path.is_file()]
    first = next((path for path in paths if not path.is_file()), None)
    _refuse(file, missing, f"name a file that does not exist; the first is {first}")
    if labelled:
        blank = [number for number, cell in pairs if cell["label"].lower() in ("", "nan")]
        _refuse(file, blank, "have no label; give them one, or leave them out")
    odd = [number for number, cell in pairs if cell["split"] and cell["split"].lower() not in SPLITS]
    _refuse(file, odd, "have a split that is not train, val or test")
    classes = sorted({cell["label"] for cell in cells if cell["label"]}, key=natural)
    index = {name: at for at, name in enumerate(classes)}
    records = tuple(
        Record(path, index.get(cell["label"]), cell["group"] or None, SPLITS.get(cell["split"].lower()), row=row)
        for path, cell, row in zip(paths, cells, rows, strict=True)
    )
    return Table(records, tuple(classes), str(file))


def _rows(file: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets write ; in half of Europe
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"{file} is empty; it needs a first line like path,label and one line per image")
    return rows[1:], [cell.strip() for cell in rows[0][1]]


def _find(header: Sequence[str], names: Sequence[str]) -> int | None:
    plain = [cell.lower().replace(" ", "_") for cell in header]
    return next((plain.index(name) for name in names if name in plain), None)


def _refuse(file: Path, numbers: list[int], what: str) -> None:
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
        raise DataError(f"{file}: {len(numbers)} lines {what} (line {shown})")
