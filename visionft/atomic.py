"""Files that are whole or absent: written beside their place, flushed to the disk, and renamed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it."""
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, flush it, and rename it into place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.touch()
        mode = beside.stat().st_mode
        write(beside)
        beside.chmod(mode)  # safetensors hides what it writes from everybody else
        flush(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)  # a full disk is not to hold half a file
        raise


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows of the same keys as a table, beside its place, and rename it."""

    def write(beside: Path) -> None:
        with beside.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\r\n")
            table.writeheader()
            table.writerows(rows)

    replace(path, write)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows flushes folders by itself and cannot open them
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
