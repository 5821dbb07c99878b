"""COCO: one JSON with images, annotations (polygons, run lengths or boxes) and categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from visionft.annotations import border, rle
from visionft.annotations.marked import GOOD, Marked, marked, once
from visionft.annotations.shapes import Shape
from visionft.data.tables import SPLITS
from visionft.errors import DataError


def find(path: Path) -> list[Path]:
    """The COCO files at a path: itself, or those in a folder, its annotations/ and its train/, val/ and test/."""
    if path.is_dir():
        folders = [path, *(part for part in path.iterdir() if part.name.lower() in {"annotations", *SPLITS})]
        return [file for folder in folders for file in sorted(folder.glob("*.json")) if find(file)]
    return [path] if path.suffix.lower() == ".json" and _is_coco(path) else []


def _is_coco(file: Path) -> bool:
    text = border.peek(file)
    return all(f'"{key}"' in text for key in ("images", "annotations"))  # also where the file is cut off


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one file; its photos lie beside it, in images/, or in a folder of its own name. Without annotation: good."""
    content = border.json_of(path)
    images, kinds = _by_id(content, "images", "file_name", path), _by_id(content, "categories", "name", path)
    names = [name for name, _ in images.values()]
    photos = dict(zip(images, border.located(names, _folders(path), path), strict=True))
    sizes = {
        key: border.agreed_size(photos[key], entry.get("height"), entry.get("width"), f"{path}, image {key}")
        for key, (_, entry) in images.items()
    }
    shapes: dict[str, list[Shape]] = defaultdict(list)
    for place, entry in enumerate(border.entries(content, "annotations", str(path))):
        where = f"{path}, annotation {entry.get('id', place) if isinstance(entry, dict) else place}"
        image, category = (_known(entry, key, known, where) for key, known in (("image", images), ("category", kinds)))
        shapes[image] += _shapes(entry, kinds[category][0], sizes[image], where)
    return once([marked(photo, shapes[key], good, split=_split(path)) for key, photo in photos.items()], path)


def _by_id(content: Mapping[str, Any], key: str, named: str, path: Path) -> dict[str, tuple[str, Any]]:
    """The name and the whole of every entry of a list, by its id."""
    found: dict[str, tuple[str, Any]] = {}
    for place, entry in enumerate(border.entries(content, key, str(path))):
        where = f"{path}, {key}[{place}]"
        own = border.word(entry, "id", where)
        if own in found:
            raise DataError(f"{where} has the id {own}, as {found[own][0]} has; ids must differ")
        found[own] = border.word(entry, named, where), entry
    return found


def _known(entry: Any, what: str, known: Mapping[str, tuple[str, Any]], where: str) -> str:
    own = border.word(entry, f"{what}_id", where)
    if own not in known:
        some = ", ".join(f"{key} ({name})" for key, (name, _) in list(known.items())[:10])
        raise DataError(f"{where} has the {what}_id {own}, which the file does not explain; it has {some or 'none'}")
    return own


def _shapes(entry: Mapping[str, Any], kind: str, size: border.Size, where: str) -> list[Shape]:
    """The polygons or the run lengths of an annotation, its box where it has neither."""
    match entry.get("segmentation"):
        case dict() as runs:
            return [_bitmap(runs, kind, size, where)]
        case [_, *_] as outlines:
            return [border.polygon(kind, _pairs(outline, where), size, where) for outline in outlines]
        case _ if entry.get("bbox"):
            left, top, width, height = border.numbers(entry["bbox"], where, 4)
            return [border.box(kind, (left, top, left + width, top + height), size, where)]
    raise DataError(f"{where} has neither a segmentation nor a bbox; delete it, or draw it again")


def _pairs(outline: Any, where: str) -> list[tuple[float, float]]:
    flat = border.numbers(outline, where)
    if len(flat) % 2:
        raise DataError(f"{where}: a polygon of {len(flat)} numbers; it is a list x, y, x, y, ...")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _bitmap(runs: Mapping[str, Any], kind: str, size: border.Size, where: str) -> Shape:
    height, width = border.whole(border.field(runs, "size", where), where, 2)
    if (height, width) != size:
        raise DataError(f"{where} has a mask of {width} x {height}, its photo is {size[1]} x {size[0]}")
    counts = border.field(runs, "counts", where)
    lengths = rle.unpack(counts, where) if isinstance(counts, str) else border.whole(counts, where)
    return border.bitmap(kind, 0, 0, rle.decode(lengths, height, width, where, by_column=True), size, where)


def _folders(path: Path) -> list[Path]:
    own = path.stem.removeprefix("instances_")
    return [root / part for root in path.parents[:2] for part in ("", "images", own, f"images/{own}")]


def _split(path: Path) -> str | None:
    own = path.stem.removeprefix("instances_").rstrip("0123456789").lower()
    return SPLITS.get(own) or SPLITS.get(path.parent.name.lower())
