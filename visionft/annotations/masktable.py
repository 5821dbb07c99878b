"""A CSV with the columns path and label, and perhaps mask, group and split."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from visionft.annotations import border, visa
from visionft.annotations.marked import GOOD, Marked, marked, mask_files, once
from visionft.data.records import Record, Table
from visionft.data.tables import read_csv
from visionft.errors import DataError

MASK = ("mask", "mask_path", "mask_file", "ground_truth", "gt")  # names of the column, in order of preference


def find(path: Path) -> list[Path]:
    """The path, when it is a table, or the tables in a folder that have a column of masks."""
    if path.is_dir():
        files = [file for end in ("*.csv", "*.tsv") for file in sorted(path.glob(end))]
        return [file for file in files if _has_masks(file) and file.name != visa.KINDS]
    return [path] if path.suffix.lower() in (".csv", ".tsv") else []


def _has_masks(file: Path) -> bool:
    header = re.split(r"[,;\t]", border.peek(file).partition("\n")[0])
    return any(cell.strip().lower().replace(" ", "_") in MASK for cell in header)


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one table; masks are named relative to its folder, as photos are; a photo without mask has an empty cell."""
    table = read_csv(path, labelled=True)
    files = [_mask(record, path.parent) for record in table]
    missing = [(record, file) for record, file in zip(table, files, strict=True) if file and not file.is_file()]
    if missing:
        lines = ", ".join(str(record.row.number) for record, _ in missing[:10] if record.row)
        raise DataError(f"{path}: {len(missing)} masks do not exist (line {lines}); the first is {missing[0][1]}")
    return once([_record(record, file, table, good) for record, file in zip(table, files, strict=True)], path)


def _mask(record: Record, folder: Path) -> Path | None:
    cells = record.row.cells if record.row else {}
    plain = {name.lower().replace(" ", "_"): cell for name, cell in cells.items()}
    cell = next((plain[name] for name in MASK if name in plain), "")
    return folder / cell if cell else None


def _record(record: Record, file: Path | None, table: Table, good: Collection[str]) -> Marked:
    if not isinstance(record.image, Path) or record.label is None:
        raise DataError(f"{record.name} is no file with a label")
    kind = table.classes[record.label]
    shapes = mask_files([file] if file else [], kind, good)
    return marked(record.image, shapes, good, kind=kind, group=record.group, split=record.split)
