"""The log of an inspector on the line: one line of JSON or CSV a verdict or event, each whole or not there."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from visionft.errors import ConfigError, DataError
from visionft.inspection.verbs import InspectWatch
from visionft.inspection.verdict import Verdict

from .inbox import Known
from .shots import Shot, stamp

BOXES = 50  # regions of a verdict that are listed, the hottest ones
TAIL = 1 << 16  # bytes at the end of a log among which the last line begins
COLUMNS = (
    "time", "event", "frame", "verdict", "p_value", "score", "regions", "left", "top", "right", "bottom", "pixels",
    "foreign", "latency_ms", "dropped", "photo", "text",
)  # fmt: skip


def row(shot: Shot, verdict: Verdict, latency: float) -> dict[str, Any]:
    """What is said of one part, in plain JSON values; regions only of those that do not pass, for they take time."""
    regions, mm = [] if verdict.passes else verdict.regions[:BOXES], verdict.mm_per_pixel
    return {
        "time": stamp(shot.time), "frame": shot.name, "verdict": verdict.word,
        "p_value": float(f"{verdict.p_value:.6g}"), "score": float(f"{verdict.score:.6g}"),
        "regions": [
            {"box": list(region.box), "pixels": region.pixels, **({"mm2": region.area(mm)} if mm else {})}
            for region in regions
        ],
        "latency_ms": round(1000 * latency, 2), "dropped": shot.dropped,
        **({"foreign": True} if verdict.foreign else {}),
    }  # fmt: skip


class Lines:
    """A file that grows by lines and is opened for each, so that it can be moved away at any time.

    What a killed process or a full disk left of a line is cut off; a table whose columns are others is refused.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.table = file, file.suffix == ".csv"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab+") as log:
                self._mend(log)
        except OSError as error:
            raise DataError(f"{file} cannot be written: {error.strerror}") from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line. Raises OSError when it cannot be written; then nothing of it is."""
        line = _cells(_flat(row)) if self.table else json.dumps(row).encode() + b"\n"
        with self.file.open("ab", buffering=0) as log:
            end = log.tell()
            whole = line if end or not self.table else _cells(COLUMNS) + line
            if log.write(whole) < len(whole):
                log.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))

    def _mend(self, log: BinaryIO) -> None:
        log.seek(0)
        if self.table and not _cells(COLUMNS).startswith(log.readline()):
            raise ConfigError(f"{self.file} holds another table; set out= to another folder")
        start = max(0, log.seek(0, os.SEEK_END) - TAIL)
        log.seek(start)
        log.truncate(start + log.read().rfind(b"\n") + 1)


def log_file(recipe: InspectWatch) -> Path:
    """Where the log of this recipe is."""
    return Path(recipe.out or "") / f"verdicts.{recipe.log}"


def known(file: Path) -> Known:
    """The photos of which a log says something, by name and time."""
    table = file.suffix == ".csv"
    with file.open(encoding="utf-8", errors="replace", newline="" if table else None) as log:
        rows = csv.DictReader(log) if table else map(_parsed, log)
        return {(row["frame"], datetime.fromisoformat(row["time"])) for row in rows if row.get("frame")}


def _parsed(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:  # a power cut: its photo is judged again, which is better than never
        return {}
    return found


def _flat(row: Mapping[str, Any]) -> list[object]:
    """The cells of a row: of several regions their number, and where the hottest lies."""
    regions = row.get("regions", [])
    first = dict(zip(("left", "top", "right", "bottom"), regions[0]["box"], strict=True)) if regions else {}
    area = {"pixels": regions[0]["pixels"]} if regions else {}
    counted = {"regions": len(regions)} if "verdict" in row else {}
    whole = {**row, **first, **area, **counted}
    return [whole.get(column, "") for column in COLUMNS]


def _cells(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().encode()
