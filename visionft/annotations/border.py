"""What an annotation file is asked before it is believed: is it whole, are these numbers, does the photo exist?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionft.annotations.shapes import Bitmap, Bools, Box, Point, Polygon, decoded
from visionft.errors import DataError

Size = tuple[int, int]  # height, width
ORIENTATION = 0x0112  # the EXIF tag; from 5 on the photo lies on its side
CORNERS = 128  # of the polygon that stands for an ellipse: 0.04 % of its area are lost


def text_of(file: Path) -> str:
    """A text file, UTF-8 with or without its mark."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def peek(file: Path) -> str:
    """What can be read of a file that may be of any kind, to recognise it by."""
    return file.read_text(encoding="utf-8", errors="replace")


def json_of(file: Path) -> Mapping[str, Any]:
    """A JSON file whose content is an object."""
    try:
        content = json.loads(text_of(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{file} is damaged or cut off: {error}; export it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds a {type(content).__name__}; an annotation file is a JSON object {{...}}")
    return content


def field(entry: Any, key: str, where: str) -> Any:
    """A value that must be there."""
    if not isinstance(entry, Mapping) or entry.get(key) is None:
        raise DataError(f"{where} has no {key}")
    return entry[key]


def word(entry: Any, key: str, where: str) -> str:
    """A name that must be there, without the blanks around it."""
    if not (found := str(field(entry, key, where)).strip()):
        raise DataError(f"{where} has an empty {key}")
    return found


def entries(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """A list that must be there."""
    found = field(content, key, where)
    if not isinstance(found, list):
        raise DataError(f"{where}: {key} is a {type(found).__name__}, not a list")
    return found


def numbers(values: Any, where: str, count: int | None = None) -> list[float]:
    """Finite numbers, so many of them."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        raise DataError(f"{where}: {str(values)[:60]} should be numbers") from None
    if not all(map(math.isfinite, found)) or (count is not None and len(found) != count):
        wanted = "finite" if count is None else f"{count} finite"
        raise DataError(f"{where}: {str(values)[:60]} should be {wanted} numbers")
    return found


def whole(values: Any, where: str, count: int | None = None) -> list[int]:
    """Whole numbers from 0 on."""
    found = numbers(values, where, count)
    if not all(value >= 0 and value.is_integer() for value in found):
        raise DataError(f"{where}: {str(values)[:60]} should be whole numbers from 0 on")
    return [int(value) for value in found]


def polygon(kind: str, points: Any, size: Size, where: str) -> Polygon:
    """An outline from x, y pairs, of which a part lies in the photo."""
    if not isinstance(points, Sequence):
        raise DataError(f"{where}: {str(points)[:60]} should be a list of points")
    pairs = [numbers(point, where, 2) for point in points]
    if len(pairs) < 3:
        raise DataError(f"{where}: a polygon of {len(pairs)} points has no area; it takes 3 or more")
    x, y = zip(*pairs, strict=True)
    _in_photo((min(x), min(y), max(x), max(y)), size, where)
    return Polygon(kind, tuple(zip(x, y, strict=True)))


def box(kind: str, sides: Sequence[float], size: Size, where: str) -> Box:
    """A box from its left, top, right and bottom, clipped to the photo."""
    left, top, right, bottom = sides
    if not (left < right and top < bottom):
        raise DataError(f"{where}: a box from {left:g}, {top:g} to {right:g}, {bottom:g} has no area; draw it again")
    _in_photo((left, top, right, bottom), size, where)
    height, width = size
    return Box(kind, max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))


def bitmap(kind: str, left: int, top: int, pixels: Bools, size: Size, where: str) -> Bitmap:
    """A bitmap, cut down to the pixels that it marks, of which a part lies in the photo."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not rows.size:
        raise DataError(f"{where}: the mask marks no pixel; delete it, or draw it again")
    (y0, y1), (x0, x1) = ((int(found[0]), int(found[-1]) + 1) for found in (rows, columns))
    _in_photo((left + x0, top + y0, left + x1, top + y1), size, where)
    return Bitmap(kind, left + x0, top + y0, pixels[y0:y1, x0:x1].copy())  # else the whole mask stays in memory


def ellipse(
    kind: str, centre: Point, radii: Sequence[float], size: Size, where: str, degrees: float = 0.0
) -> Polygon:  # fmt: skip
    """The polygon that stands for an ellipse, turned clockwise."""
    if min(radii) <= 0:
        raise DataError(f"{where}: an ellipse of radius {min(radii):g} has no area; draw it again")
    angles = [math.tau * corner / CORNERS for corner in range(CORNERS)]
    points = [(centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle)) for angle in angles]
    return polygon(kind, turned(points, centre, degrees), size, where)


def turned(points: Sequence[Point], centre: Point, degrees: float) -> list[Point]:
    """Points turned clockwise, as seen, about a centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    away = [(x - centre[0], y - centre[1]) for x, y in points]
    return [(centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y) for x, y in away]


def _in_photo(sides: tuple[float, float, float, float], size: Size, where: str) -> None:
    left, top, right, bottom = sides
    if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
        raise DataError(
            f"{where}: the shape from {left:g}, {top:g} to {right:g}, {bottom:g} lies outside the photo, "
            f"which is {size[1]} x {size[0]} (width x height); was the photo resized after it was annotated?"
        )


def size_of(photo: Path) -> Size:
    """Height and width of the upright photo, from its header where that is enough."""
    try:
        with Image.open(photo) as image:
            if image.format in ("JPEG", "MPO", "PNG", "BMP"):
                turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) >= 5
                return image.size if turned else image.size[::-1]
    except (OSError, Image.DecompressionBombError):
        pass  # what cannot be read at all is named below
    height, width = decoded(photo).pixels.shape[:2]
    return height, width


def agreed_size(photo: Path, height: Any, width: Any, where: str) -> Size:
    """The photo's size; where the annotation file states one, it must be the same."""
    size = size_of(photo)
    if height and width and tuple(whole((height, width), where)) != size:
        raise DataError(
            f"{where} was annotated at {width} x {height}, but {photo} is {size[1]} x {size[0]} (width x height) when "
            "upright; annotate this very file"
        )
    return size


def located(names: Sequence[str], folders: Sequence[Path], source: Path) -> list[Path]:
    """The photos that `source` names, all below the one folder that has most of them."""
    tries = [[folder / name.replace("\\", "/") for name in names] for folder in folders]
    best = min(tries, key=lambda photos: sum(not photo.is_file() for photo in photos))
    if missing := [photo for photo in best if not photo.is_file()]:
        looked = ", ".join(dict.fromkeys(map(str, folders)))
        raise DataError(
            f"{source} names {len(missing)} photos (of {len(names)}) that are not there, the first is {missing[0]}; "
            f"photos are looked for in {looked}"
        )
    return best
