"""YOLO: data.yaml, images/ and labels/ with a text file per photo, one line per box or polygon; no file means good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import yaml

from visionft.annotations import border
from visionft.annotations.marked import GOOD, Marked, marked, once
from visionft.annotations.shapes import Shape
from visionft.data.sources import image_files
from visionft.data.tables import SPLITS
from visionft.errors import DataError

NAMES = "classes.txt"  # one name a line, where there is no data.yaml


def find(path: Path) -> list[Path]:
    """The YAML files that name classes and photos, or the folder with images/, labels/ and text files in there."""
    if path.is_dir():
        files = [file for end in ("*.yaml", "*.yml") for file in sorted(path.glob(end)) if find(file)]
        bare = (path / "images").is_dir() and any((path / "labels").rglob("*.txt"))
        return files or ([path] if bare else [])
    if path.suffix.lower() not in (".yaml", ".yml"):
        return []
    text = f"\n{border.peek(path)}"
    return [path] if "\nnames:" in text and any(f"\n{key}:" in text for key in SPLITS) else []


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read the photos of all splits; every label file must belong to one of them."""
    kinds, photos = _bare(path) if path.is_dir() else _described(path)
    if not photos:
        raise DataError(f"{path} names no photos; they are named by train:, val: and test:, or lie in images/")
    once([Marked(photo) for photo, _ in photos], path)
    _check(path, [label_of(photo) for photo, _ in photos])
    return [marked(photo, _shapes(photo, kinds), good, split=split) for photo, split in photos]


def _check(path: Path, labels: list[Path]) -> None:
    """Every label file belongs to one photo, and there are any."""
    if not any(label.is_file() for label in labels):
        raise DataError(f"{path}: none of {len(labels)} photos has a label file; the first would be {labels[0]}")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"{path}: {len(twice)} label files could be of two photos, the first is {twice[0]}")
    if stray := sorted(_label_files(labels) - set(labels)):
        raise DataError(f"{path}: {len(stray)} label files belong to no photo, the first is {stray[0]}")


def label_of(photo: Path) -> Path:
    """Where the format keeps a photo's labels: in labels/ for images/, else beside it."""
    parts = list(photo.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _label_files(labels: Iterable[Path]) -> set[Path]:
    folders = {label.parent for label in labels if "labels" in label.parts}
    files = {file for folder in folders for file in folder.glob("*.txt") if file.name[0] != "."}
    return {file for file in files if file.name != NAMES}


def _described(file: Path) -> tuple[dict[str, str], list[tuple[Path, str | None]]]:
    try:
        content = yaml.safe_load(border.text_of(file))
    except yaml.YAMLError as error:
        raise DataError(f"{file} is damaged or no YAML: {' '.join(str(error).split())[:200]}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list | dict) or not names:
        raise DataError(f"{file} names no classes; it needs a line like names: [crack, scratch]")
    kinds = {str(key): str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    parts = [(SPLITS[key], value) for key, value in content.items() if key in SPLITS and value]
    return kinds, [
        (photo, split)
        for split, value in parts
        for place in (value if isinstance(value, list) else [value])
        for photo in _photos(file, str(content.get("path") or ""), str(place))
    ]


def _photos(file: Path, root: str, place: str) -> list[Path]:
    """The photos of a folder, or of a text file that lists them."""
    near = place.removeprefix("../")  # some exporters write ../train/images for what lies beside data.yaml
    tries = [file.parent / root / place, file.parent / place, file.parent / near]
    found = next((found for found in tries if found.exists()), None)
    if found is None:
        looked = " nor ".join(dict.fromkeys(map(str, tries)))
        raise DataError(f"{file} names the photos {place}, but there is no {looked}")
    if found.is_dir():
        return image_files(found)
    photos = [found.parent / line.strip() for line in border.text_of(found).splitlines() if line.strip()]
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise DataError(f"{found} names {len(missing)} photos that are not there, the first is {missing[0]}")
    return photos


def _bare(folder: Path) -> tuple[dict[str, str], list[tuple[Path, str | None]]]:
    names = next((file for file in (folder / NAMES, folder / "labels" / NAMES) if file.is_file()), None)
    if names is None:
        raise DataError(f"{folder} has labels/ but neither a data.yaml nor a {NAMES} that names the classes")
    lines = [line.strip() for line in border.text_of(names).splitlines() if line.strip()]
    images = folder / "images"
    photos = [(photo, SPLITS.get(photo.relative_to(images).parts[0].lower())) for photo in image_files(images)]
    return {str(place): name for place, name in enumerate(lines)}, photos


def _shapes(photo: Path, kinds: Mapping[str, str]) -> list[Shape]:
    file = label_of(photo)
    lines = [line.split() for line in border.text_of(file).splitlines()] if file.is_file() else []
    size = border.size_of(photo) if any(lines) else (0, 0)
    return [_shape(words, kinds, size, f"{file}, line {number}") for number, words in enumerate(lines, 1) if words]


def _shape(words: list[str], kinds: Mapping[str, str], size: border.Size, where: str) -> Shape:
    if words[0] not in kinds:
        known = ", ".join(f"{key} ({name})" for key, name in kinds.items())
        raise DataError(f"{where} has class {words[0]}; the classes are {known}")
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise DataError(f"{where} has {len(words)} values; a box has 5 (class x y width height), a polygon 7, 9, ...")
    values = border.numbers(words[1:], where)
    if max(map(abs, values)) > 2:  # a little over 1 is a shape that reaches beyond the photo
        raise DataError(f"{where} has {max(values):g}; coordinates are fractions of the width and height, from 0 to 1")
    x, y = ([value * side for value in values[start::2]] for start, side in ((0, size[1]), (1, size[0])))
    if len(words) > 5:
        return border.polygon(kinds[words[0]], list(zip(x, y, strict=True)), size, where)
    sides = x[0] - x[1] / 2, y[0] - y[1] / 2, x[0] + x[1] / 2, y[0] + y[1] / 2
    return border.box(kinds[words[0]], sides, size, where)
