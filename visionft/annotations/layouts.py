"""Where defects are, from whatever tool they were annotated with: one path to a list of photos with shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from visionft.annotations import coco, cvat, labelme, maskfolders, masktable, mvtec, visa, yolo
from visionft.annotations.marked import GOOD, Marked, is_good, once, plain
from visionft.annotations.shapes import Bitmap, Box, MaskFile, Polygon, Shape, drawn
from visionft.config import suggest
from visionft.errors import DataError

__all__ = [
    "LAYOUTS", "Bitmap", "Box", "Layout", "Marked", "MaskFile", "Polygon", "Shape", "drawn", "is_good", "read_marked",
]  # fmt: skip


class Layout(NamedTuple):
    """One way to keep annotations: what of a path is kept so, how that is read, and how it looks."""

    find: Callable[[Path], list[Path]]
    read: Callable[[Path, Collection[str]], list[Marked]]
    looks: str


LAYOUTS = {
    "mvtec": Layout(mvtec.find, mvtec.read, "train/good/, test/KIND/ and ground_truth/KIND/NAME_mask.png"),
    "visa": Layout(visa.find, visa.read, "Data/Images/Normal/, Data/Images/Anomaly/ and Data/Masks/Anomaly/"),
    "coco": Layout(coco.find, coco.read, "a .json with images, annotations and categories"),
    "yolo": Layout(yolo.find, yolo.read, "data.yaml (or classes.txt), images/ and labels/NAME.txt"),
    "labelme": Layout(labelme.find, labelme.read, "NAME.json beside NAME.jpg"),
    "cvat": Layout(cvat.find, cvat.read, "an .xml exported as CVAT for images 1.1"),
    "table": Layout(masktable.find, masktable.read, "a .csv with the columns path, label and mask"),
    "folders": Layout(
        maskfolders.find,
        maskfolders.read,
        "good/NAME.jpg, KIND/NAME.jpg, perhaps KIND/NAME_mask.png or masks/KIND/NAME.png",
    ),
}


def recognised(source: str | Path) -> bool:
    """Whether a path holds annotations of any layout."""
    path = Path(source).expanduser()
    return any(kept.find(path) for kept in LAYOUTS.values()) or maskfolders.unmasked(path, GOOD)


def read_marked(source: str | Path, *, layout: str | None = None, good: str | None = None) -> list[Marked]:
    """Read photos, kinds and shapes from a file or folder of any of the LAYOUTS.

    `layout` says which, where a folder holds several; `good` what good parts are called, where the name is unusual.
    Raises DataError for whatever cannot be used: nothing is left out in silence.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"there is no layout {layout!r}{suggest(layout, LAYOUTS)}")
    chosen = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
    names = GOOD | ({plain(good)} if good else set())
    found = {name: places for name, kept in chosen.items() if (places := kept.find(path))}
    if not found and "folders" in chosen and maskfolders.unmasked(path, names):
        found = {"folders": [path]}
    if len(found) != 1:
        raise DataError(_several(path, found) if found else _nothing(path, layout))
    ((name, places),) = found.items()
    records = once([record for place in places for record in LAYOUTS[name].read(place, names)], path)
    if good and not any(record.good for record in records):
        kinds = ", ".join(sorted({record.kind for record in records}))
        raise DataError(f"{path} has no photo of a kind {good!r} that would be good; its kinds are {kinds}")
    return records


def _several(path: Path, found: dict[str, list[Path]]) -> str:
    held = "; ".join(f"{name} ({', '.join(map(str, places[:3]))})" for name, places in found.items())
    return f"{path} holds annotations in several layouts: {held}; name the one file, or say layout={next(iter(found))}"


def _nothing(path: Path, layout: str | None) -> str:
    known = "; ".join(f"{name}: {kept.looks}" for name, kept in LAYOUTS.items() if layout in (None, name))
    message = f"{path} holds no annotations{f' in the layout {layout}' if layout else ''}"
    if path.is_dir():
        inner = [part for part in sorted(path.iterdir()) if any(kept.find(part) for kept in LAYOUTS.values())]
        if inner:
            return f"{message}; did you mean {' or '.join(map(str, inner[:5]))}?"
        counts = Counter(file.suffix.lower() or "(none)" for file in path.rglob("*") if file.is_file())
        message += f"; it has {', '.join(f'{count} {end}' for end, count in counts.most_common(6)) or 'no files'}"
    return f"{message}. Layouts that can be read: {known}"
