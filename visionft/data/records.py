"""Record and Table: one image and what is known of it, and a data set of them in a fixed order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visionft.errors import DataError


@dataclass(frozen=True)
class Row:
    """What a table said of one image, word for word, for those who ask for a column by name."""

    number: int  # line of the file, or place in the lists
    cells: Mapping[str, str]  # column -> text; empty where nothing is known


@dataclass(frozen=True)
class Record:
    """One image: where it is, its class, what it belongs to."""

    image: Path | np.ndarray  # a file, or decoded pixels H W or H W C
    label: int | None = None  # index into Table.classes
    group: str | None = None  # what must not be split (a part, a patient) and what metrics are reported by
    split: str | None = None  # "train", "val" or "test" when the source says so
    digest: str = ""  # content hash, filled in by the scan
    number: int | None = None  # an array's place in its source: all there is to name it by
    row: Row | None = None  # where the source is a table

    @property
    def name(self) -> str:
        """The words that messages and lists use for this image: its path, or `array 12`."""
        return str(self.image) if isinstance(self.image, Path) else f"array {self.number}"


@dataclass(frozen=True)
class Table:
    """Records in a fixed order, the classes that their labels index, and what the user named as their source."""

    records: tuple[Record, ...]
    classes: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise DataError(f"{self.source or 'the table'} lists the same class twice: {', '.join(twice)}")
        for record in self.records:
            if record.label is not None and not 0 <= record.label < len(self.classes):
                raise DataError(f"{record.name} has label {record.label}, but there are {len(self.classes)} classes")
        numbered = (
            replace(record, number=place) if record.number is None and not isinstance(record.image, Path) else record
            for place, record in enumerate(self.records)
        )
        object.__setattr__(self, "records", tuple(numbered))

    @classmethod
    def of(
        cls,
        images: Iterable[Path | str | np.ndarray],
        labels: Sequence[int | None] | None = None,
        groups: Sequence[str | None] | None = None,
        splits: Sequence[str | None] | None = None,
        *,
        classes: Sequence[str] = (),
        source: str = "",
    ) -> Table:
        """Put parallel columns together; every column given must be as long as the images."""
        files = [Path(image) if isinstance(image, str) else image for image in images]
        columns = {"labels": labels, "groups": groups, "splits": splits}
        for name, column in columns.items():
            if column is not None and len(column) != len(files):
                raise DataError(f"{source or 'the table'} has {len(files)} images but {len(column)} {name}")
        nothing: list[None] = [None] * len(files)
        rows = zip(files, labels or nothing, groups or nothing, splits or nothing, strict=True)
        return cls(tuple(Record(*row) for row in rows), tuple(classes), source)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def take(self, indices: Iterable[int]) -> Table:
        """Keep these records, in this order."""
        return replace(self, records=tuple(self.records[index] for index in indices))

    @property
    def labels(self) -> np.ndarray:
        """Every label as int64; a record without one is an error."""
        missing = [record.name for record in self.records if record.label is None]
        if missing:
            raise DataError(f"{len(missing)} of {len(self)} images have no label, the first is {missing[0]}")
        return np.array([record.label for record in self.records], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        """Every group; a record without one is an error."""
        missing = [record.name for record in self.records if record.group is None]
        if missing:
            raise DataError(f"{len(missing)} of {len(self)} images have no group, the first is {missing[0]}")
        return [record.group for record in self.records if record.group is not None]

    @property
    def fingerprint(self) -> str:
        """One hash of the contents of all images, whatever their order."""
        return fingerprint([record.digest for record in self])

    @property
    def labelled(self) -> bool:
        """True when there are records and every one has a label."""
        return bool(self.records) and all(record.label is not None for record in self.records)

    @property
    def grouped(self) -> bool:
        """True when there are records and every one has a group."""
        return bool(self.records) and all(record.group is not None for record in self.records)


def fingerprint(digests: Sequence[str]) -> str:
    """One hash of a set of images, whatever their order."""
    return hashlib.blake2b("".join(sorted(digests)).encode(), digest_size=16).hexdigest()
