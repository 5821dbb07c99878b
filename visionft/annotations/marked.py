"""One photo and what its annotators said of it: which kind of defect it has, and where."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionft.annotations.shapes import Bools, MaskFile, Shape, drawn, marks_of
from visionft.errors import DataError

NO_DEFECT = "good"  # the kind of a photo without a defect, whatever its source calls it
GOOD = frozenset({  # what sources call it, in small letters and digits
    "good", "ok", "okay", "normal", "nominal", "free", "fine", "pass", "passed", "intact", "flawless", "healthy",
    "functional", "gut", "io", "defectfree", "nodefect", "nodefects", "nondefective",
})  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """A photo, where its defects are, and of which kind they are, several joined by `+`; a good part has the kind good.

    A defect that nobody drew has a kind but no shapes.
    """

    image: Path
    shapes: tuple[Shape, ...] = ()
    kind: str = NO_DEFECT
    group: str | None = None  # what must not be split (a part, a lot)
    split: str | None = None  # "train", "val" or "test" when the source says so

    @property
    def good(self) -> bool:
        """True when the photo shows no defect."""
        return self.kind == NO_DEFECT

    def mask(self, height: int, width: int) -> Bools | None:
        """The defective pixels of the upright photo (H W); None for a defect whose place is not known."""
        if self.good:
            return np.zeros((height, width), bool)
        mask = drawn(self.shapes, height, width)
        return mask if mask.any() else None


def marked(
    image: Path, shapes: Iterable[Shape], good: Collection[str], *,
    kind: str | None = None, group: str | None = None, split: str | None = None,
) -> Marked:  # fmt: skip
    """Settle what a photo shows: `kind` if its source says so, else the kinds of its shapes, of which good ones go."""
    defects = tuple(shape for shape in shapes if not is_good(shape.kind, good))
    if kind is None:
        kind = "+".join(sorted({shape.kind for shape in defects})) or NO_DEFECT
    elif is_good(kind, good):
        if defects:
            raise DataError(f"{image} is called {kind}, but {len(defects)} defects are marked in it; correct either")
        kind = NO_DEFECT
    return Marked(image, defects, kind, group, split)


def is_good(kind: str, good: Collection[str]) -> bool:
    """True when a source's name for a kind means that there is no defect: `i.O.`, `Defect-free`."""
    return plain(kind) in good


def plain(name: str) -> str:
    """A name in small letters and digits only."""
    return re.sub(r"[\W_]+", "", name.lower())


def mask_files(files: Iterable[Path], kind: str, good: Collection[str]) -> tuple[MaskFile, ...]:
    """The masks of one photo; a good part may have masks too, but they must be black."""
    if not is_good(kind, good):
        return tuple(MaskFile(kind, file) for file in files)
    if stray := next((file for file in files if marks_of(file).any()), None):
        raise DataError(f"{stray} marks a defect in a photo that is called {kind}; correct either")
    return ()


def once(records: list[Marked], source: Path) -> list[Marked]:
    """The records, unless two are of one photo."""
    counts = Counter(record.image.resolve() for record in records)
    if twice := [image for image, count in counts.items() if count > 1]:
        raise DataError(f"{source} has {len(twice)} photos more than once, the first is {twice[0]}; keep one of each")
    return records
