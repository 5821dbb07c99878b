"""Look at every image once before training: hash it, decode it, and say in plain words what was found."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ImageFile

from visionft.data.examine import Finding, examine, examine_all
from visionft.data.records import Record, Table
from visionft.data.sources import EXTENSIONS
from visionft.errors import DataError

BATCH = 256  # images decoded between two looks at what the decoders said
WHITE = 65535  # of 16 bits, unless told otherwise
HABIT = 0.2, 8  # this share and number of JPEGs with left-over data: the camera writes them so, nothing is damaged
SHOWN = 10  # names listed in a message


@dataclass(frozen=True)
class Scan:
    """What the scan found; `table` holds the usable records, their digests filled in, in the order given."""

    table: Table
    bad: dict[str, str] = field(default_factory=dict)  # name -> why it cannot be used
    duplicates: tuple[tuple[str, ...], ...] = ()  # names of files with the same content
    conflicts: tuple[tuple[str, ...], ...] = ()  # those of them that have different labels
    leaks: tuple[tuple[str, ...], ...] = ()  # those of them that the source puts on both sides of a split
    misnamed: dict[str, str] = field(default_factory=dict)  # name -> the format its content really has
    left_over: tuple[str, ...] = ()  # JPEGs with data after a complete picture, as some cameras write them all
    formats: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # "min", "median", "max" -> width, height
    balance: dict[str, int] = field(default_factory=dict)  # class -> images
    deep: int = 0  # images of more than 8 bits
    peak: int = 0  # the largest value in them
    white: int = 65535  # the value that is shown as white

    def lines(self) -> list[str]:
        """Summarise in plain words, one finding a line."""
        small, middle, large = (f"{width}x{height}" for width, height in self.sizes.values())
        spread = f"{middle} pixels" if small == large else f"{small} to {large} pixels (median {middle})"
        about = f"{self.table.source or 'images'}: {len(self.table)} usable images, {spread}; {_counted(self.formats)}"
        findings = (
            f"classes: {_counted(self.balance)}" if self.balance else "",
            _named(self.bad, "left out, because it cannot be used", "left out, because they cannot be used"),
            _same(self.duplicates, "are in the data more than once"),
            _same(self.conflicts, "are in the data more than once with DIFFERENT LABELS; at most one can be right"),
            _same(self.leaks, "are in more than one of train, val and test, which makes the test too easy"),
            _named(
                self.misnamed, "is not what its name says, but is used", "are not what their names say, but are used"
            ),
            f"{len(self.left_over)} JPEGs end with left-over data, as some cameras write them"
            if self.left_over
            else "",
            self._about_depth(),
        )
        return [about, *(line for line in findings if line)]

    def _about_depth(self) -> str:
        if self.suggested_white:
            way = f"set white={self.suggested_white}"
            return f"{self.deep} images are stored in 16 bits but never exceed {self.peak}, so they look dark: {way}"
        clipped = f"; they reach {self.peak} and are clipped" if self.peak > self.white else ""
        return f"{self.deep} images have more than 8 bits; {self.white} is shown as white{clipped}" if self.deep else ""

    @property
    def suggested_white(self) -> int | None:
        """The white of an 8, 10, 12 or 14-bit camera, when 16-bit files never exceed it and white is not set."""
        whites = (2**bits - 1 for bits in (8, 10, 12, 14))
        return next((white for white in whites if 0 < self.peak <= white < self.white == 65535), None)

    def facts(self) -> dict[str, Any]:
        """Everything found, as plain JSON values."""
        names = ("bad", "misnamed", "formats", "modes", "balance", "deep", "peak", "white", "suggested_white")
        groups = {name: [list(names) for names in getattr(self, name)] for name in ("duplicates", "conflicts", "leaks")}
        plain = {name: getattr(self, name) for name in names}
        sizes = {name: list(size) for name, size in self.sizes.items()}
        return {"images": len(self.table), **plain, **groups, "left_over": list(self.left_over), "sizes": sizes}


def scan(
    table: Table,
    *,
    bad: Literal["error", "skip"] = "error",
    channels: int = 3,
    white: int = 65535,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Hash and decode every image once; unusable ones are an error that names them, or with bad="skip" are left out."""
    findings = _findings(table, partial(examine, channels=channels, white=white), progress)
    reasons = {record.name: one.error for record, one in zip(table, findings, strict=True) if one.error}
    usable = [place for place, one in enumerate(findings) if not one.error]
    if not usable or (reasons and bad == "error"):
        raise DataError(_refusal(table, reasons, bad))
    records = tuple(replace(table[place], digest=_digest(findings[place], white)) for place in usable)
    result = _summary(replace(table, records=records), [findings[place] for place in usable], reasons, white)
    if report:
        for line in result.lines():
            report(line)
    return result


def _digest(one: Finding, white: int) -> str:
    """What an image is known by: its content, and for one of more than 8 bits what is shown as white."""
    return f"{one.digest}-{white}" if one.peak and white != WHITE else one.digest


def _findings(
    table: Table, look: Callable[[Record], Finding], progress: Callable[[int, int], None] | None
) -> list[Finding]:
    findings: list[Finding] = []
    with _strict(), ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(table), BATCH):
            findings += examine_all(table.records[start : start + BATCH], pool, look)
            if progress:
                progress(len(findings), len(table))
    jpegs = sum(one.format in ("JPEG", "MPO") for one in findings)
    share, number = HABIT
    if sum(bool(one.left_over) for one in findings) >= max(share * jpegs, number):
        return findings
    return [replace(one, error=f"is damaged: {one.left_over}") if one.left_over else one for one in findings]


@contextmanager
def _strict() -> Iterator[None]:
    """Make Pillow refuse cut-off images even where some other library has told it to fill them with grey."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on metadata; what matters is in the findings
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _refusal(table: Table, reasons: dict[str, str], bad: str) -> str:
    shown = "".join(f"\n  {name} {reason}" for name, reason in list(reasons.items())[:SHOWN])
    more = f"\n  and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    way = "bad=skip would leave them out" if bad == "error" else ""
    way = "none is left; name other files" if len(reasons) == len(table) else way
    return f"{len(reasons)} of {len(table)} images of {table.source or 'the table'} cannot be used; {way}:{shown}{more}"


def _summary(table: Table, findings: Sequence[Finding], reasons: dict[str, str], white: int) -> Scan:
    same = _repeated(table)
    sizes = np.array([one.size for one in findings])
    extent = {"min": sizes.min(0), "median": np.median(sizes, axis=0), "max": sizes.max(0)}
    peaks = [one.peak for one in findings if one.peak]
    labels = Counter(table.classes[record.label] for record in table if record.label is not None)
    names = [record.name for record in table]
    return Scan(
        table,
        bad=reasons,
        duplicates=tuple(tuple(record.name for record in group) for group in same),
        conflicts=_differing(same, lambda record: record.label),
        leaks=_differing(same, lambda record: record.split),
        misnamed={
            name: f"holds {one.format}" for name, one in zip(names, findings, strict=True) if _misnamed(name, one)
        },
        left_over=tuple(name for name, one in zip(names, findings, strict=True) if one.left_over),
        formats=dict(Counter(one.format for one in findings).most_common()),
        modes=dict(Counter(one.mode for one in findings).most_common()),
        sizes={name: (int(width), int(height)) for name, (width, height) in extent.items()},
        balance={name: labels[name] for name in table.classes},
        deep=len(peaks),
        peak=max(peaks, default=0),
        white=white,
    )


def _repeated(table: Table) -> list[list[Record]]:
    by_digest: dict[str, list[Record]] = defaultdict(list)
    for record in table:
        by_digest[record.digest].append(record)
    return [group for group in by_digest.values() if len(group) > 1]


def _differing(groups: list[list[Record]], key: Callable[[Record], object]) -> tuple[tuple[str, ...], ...]:
    mixed = (group for group in groups if len({key(record) for record in group}) > 1)
    return tuple(tuple(record.name for record in group) for group in mixed)


def _misnamed(name: str, finding: Finding) -> bool:
    allowed = EXTENSIONS.get(Path(name).suffix[1:].lower())
    return finding.format != "array" and allowed is not None and finding.format not in allowed


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _named(items: dict[str, str], one: str, many: str) -> str:
    shown = "; ".join(f"{name} {reason}" for name, reason in list(items.items())[:SHOWN])
    more = f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)} {one if len(items) == 1 else many}: {shown}{more}" if items else ""


def _same(groups: tuple[tuple[str, ...], ...], what: str) -> str:
    first = " = ".join(groups[0][:3]) if groups else ""
    return (
        f"{sum(map(len, groups))} files, {len(groups)} different images, {what}; the first: {first}" if groups else ""
    )
