"""labelme: one JSON per photo; the JSON of a good photo has no shapes, or is missing in a folder good/."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Collection
from glob import escape
from pathlib import Path
from typing import Any

from visionft.annotations import border
from visionft.annotations.marked import GOOD, Marked, is_good, marked, once
from visionft.annotations.shapes import Bools, Shape
from visionft.data.picture import picture
from visionft.data.sources import image_files, is_image
from visionft.data.tables import SPLITS, natural
from visionft.errors import DataError


def find(path: Path) -> list[Path]:
    """The path, when it is such a JSON, or a folder with one somewhere in it."""
    if path.is_dir():
        return [path] if any(find(file) for file in _json_files(path)) else []
    text = border.peek(path) if path.suffix.lower() == ".json" else ""
    return [path] if '"shapes"' in text and '"imagePath"' in text else []


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one JSON, or all of a folder; a photo there without JSON must lie in a folder whose name means good."""
    root, files = (path, _json_files(path)) if path.is_dir() else (path.parent, [path])
    records = [_read(file, good, _split(file, root)) for file in files]
    if path.is_file():
        return records
    seen = {record.image.resolve() for record in records}
    rest = [photo for photo in image_files(path) if photo.resolve() not in seen]
    bare = [photo for photo in rest if not any(is_good(part, good) for part in photo.relative_to(path).parts[:-1])]
    if bare:
        raise DataError(
            f"{path}: {len(bare)} photos have no JSON, the first is {bare[0]}; are they good, or not annotated yet? "
            "Good ones belong in a folder good/"
        )
    return once(records + [marked(photo, (), good, split=_split(photo, path)) for photo in rest], path)


def _json_files(folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*.json") if not any(p[0] == "." for p in file.relative_to(folder).parts)]
    return sorted(files, key=lambda file: natural(str(file)))


def _split(file: Path, root: Path) -> str | None:
    return SPLITS.get(file.relative_to(root).parts[0].lower())


def _read(file: Path, good: Collection[str], split: str | None) -> Marked:
    content = border.json_of(file)
    if "shapes" not in content:
        raise DataError(f"{file} has no shapes, so it is not from labelme; keep other JSON files elsewhere")
    photo = _photo(file, border.word(content, "imagePath", str(file)))
    size = border.agreed_size(photo, content.get("imageHeight"), content.get("imageWidth"), str(file))
    shapes = border.entries(content, "shapes", str(file))
    found = [_shape(entry, size, f"{file}, shape {number}") for number, entry in enumerate(shapes, 1)]
    return marked(photo, found, good, split=split)


def _photo(file: Path, name: str) -> Path:
    """The photo that the JSON points at, or that has its name, when both were renamed."""
    photo = file.parent / name.replace("\\", "/")
    if photo.is_file():
        return photo
    beside = [other for other in file.parent.glob(f"{escape(file.stem)}.*") if is_image(other)]
    if len(beside) != 1:
        raise DataError(f"{file} is about {photo}, which is not there, nor is one photo {file.stem}.* beside it")
    return beside[0]


def _shape(entry: Any, size: border.Size, where: str) -> Shape:
    kind, form = border.word(entry, "label", where), str(entry.get("shape_type") or "polygon")
    points = [border.numbers(point, where, 2) for point in border.entries(entry, "points", where)]
    match form, points:
        case "polygon" | "rotation", _:
            return border.polygon(kind, points, size, where)
        case "rectangle", [_, _] | [_, _, _, _]:
            x, y = zip(*points, strict=True)
            return border.box(kind, (min(x), min(y), max(x), max(y)), size, where)
        case "circle", [[x, y], rim]:
            radius = math.dist((x, y), rim)
            return border.ellipse(kind, (x, y), (radius, radius), size, where)
        case "mask", [[left, top], _]:
            pixels = _pixels(border.word(entry, "mask", where), where)
            return border.bitmap(kind, int(left), int(top), pixels, size, where)
    raise DataError(
        f"{where} is a {form} of {len(points)} points; draw a polygon, a rectangle (2 corners, or 4), "
        "a circle (its centre and a point on its rim) or a mask (2 corners)"
    )


def _pixels(mask: str, where: str) -> Bools:
    """A small picture in the JSON, whose first pixel lies at the first corner."""
    try:
        marks: Bools = picture(base64.b64decode(mask, validate=True)).pixels.max(axis=2) > 0
    except (DataError, binascii.Error) as error:
        raise DataError(f"{where}: the mask {error}; draw it again") from error
    return marks
