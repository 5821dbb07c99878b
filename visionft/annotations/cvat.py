"""CVAT for images 1.1: one XML with an element per photo, and in it boxes, polygons, ellipses, masks and tags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring
from xml.parsers.expat import ExpatError, ParserCreate

from visionft.annotations import border, rle
from visionft.annotations.marked import GOOD, Marked, marked, once
from visionft.annotations.shapes import Shape
from visionft.data.tables import SPLITS
from visionft.errors import DataError

SHAPES = ("box", "polygon", "ellipse", "mask")


def find(path: Path) -> list[Path]:
    """The XML files at a path whose outermost element is <annotations>."""
    if path.is_dir():
        return [file for file in sorted(path.glob("*.xml")) if find(file)]
    return [path] if path.suffix.lower() == ".xml" and "<annotations" in border.peek(path) else []


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one XML; its photos lie beside it or in images/. A tag names a photo's kind; without any mark it is good."""
    root = _tree(path)
    if root.tag != "annotations" or root.find("track") is not None:
        what = "is about a video" if root.find("track") is not None else f"begins with <{root.tag}>"
        raise DataError(f'{path} {what}; export it from CVAT as "CVAT for images 1.1"')
    images = root.findall("image")
    photos = _photos(images, path)
    return once([_record(image, photo, good, path) for image, photo in zip(images, photos, strict=True)], path)


def _tree(path: Path) -> Element:
    """The elements of a file; one that declares entities, which could grow without end, is refused."""

    def refuse(*_: object) -> None:
        raise DataError(f"{path} has a DOCTYPE, which no CVAT file has; delete it")

    data, parser = path.read_bytes(), ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return fromstring(data)
    except ExpatError as error:
        raise DataError(f"{path} is damaged or cut off: {error}; export it again") from None


def _photos(images: list[Element], path: Path) -> list[Path]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        places[image.get("subset", "")].append(place)
    found: dict[int, Path] = {}
    for subset, own in places.items():
        names = [border.word(images[place].attrib, "name", f"{path}, image {place}") for place in own]
        parts = dict.fromkeys(("", "images", subset, f"images/{subset}"))
        folders = [root / part for root in path.parents[:2] for part in parts]
        found |= zip(own, border.located(names, folders, path), strict=True)
    return [found[place] for place in range(len(images))]


def _record(image: Element, photo: Path, good: Collection[str], path: Path) -> Marked:
    where = f"{path}, image {image.get('name')}"
    size = border.agreed_size(photo, image.get("height"), image.get("width"), where)
    tags = sorted({border.word(tag.attrib, "label", f"{where}, tag") for tag in image.findall("tag")})
    children = [child for child in image if child.tag != "tag"]
    if odd := next((child.tag for child in children if child.tag not in SHAPES), None):
        raise DataError(f"{where} has a {odd}, which is no area; draw one of {', '.join(SHAPES)}")
    shapes = [_shape(child, size, f"{where}, shape {number}") for number, child in enumerate(children, 1)]
    split = SPLITS.get(image.get("subset", "").lower())
    return marked(photo, shapes, good, kind="+".join(tags) or None, split=split)


def _shape(element: Element, size: border.Size, where: str) -> Shape:
    values, kind = element.attrib, border.word(element.attrib, "label", where)
    (degrees,) = border.numbers([values.get("rotation", 0)], where)
    match element.tag:
        case "polygon":
            points = border.word(values, "points", where).split(";")
            return border.polygon(kind, [point.split(",") for point in points], size, where)
        case "ellipse":
            x, y, *radii = _numbers(values, ("cx", "cy", "rx", "ry"), where)
            return border.ellipse(kind, (x, y), radii, size, where, degrees)
        case "mask":
            return _mask(values, kind, size, where)
    left, top, right, bottom = _numbers(values, ("xtl", "ytl", "xbr", "ybr"), where)
    if not degrees:
        return border.box(kind, (left, top, right, bottom), size, where)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return border.polygon(kind, border.turned(corners, ((left + right) / 2, (top + bottom) / 2), degrees), size, where)


def _numbers(values: Mapping[str, str], keys: Sequence[str], where: str) -> list[float]:
    return border.numbers([border.field(values, key, where) for key in keys], where)


def _mask(values: Mapping[str, str], kind: str, size: border.Size, where: str) -> Shape:
    """Run lengths along the rows of a window in the photo."""
    sides = _numbers(values, ("left", "top", "width", "height"), where)
    left, top, width, height = border.whole(sides, where)
    if height > size[0] or width > size[1]:
        raise DataError(f"{where} has a mask of {width} x {height}, its photo is {size[1]} x {size[0]}")
    runs = border.whole(border.word(values, "rle", where).split(","), where)
    return border.bitmap(kind, left, top, rle.decode(runs, height, width, where, by_column=False), size, where)
