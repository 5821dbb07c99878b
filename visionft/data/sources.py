"""Whatever the user names as images (folder, class folders, CSV, paths, arrays, sample) to one table of records."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionft.data.picture import opened
from visionft.data.records import Record, Row, Table
from visionft.data.samples import SAMPLES
from visionft.data.tables import SPLITS, natural, read_csv
from visionft.errors import DataError, nearest

Source = str | Path | Image.Image | Sequence[Any] | np.ndarray | Table

EXTENSIONS: dict[str, tuple[str, ...]] = {  # file extension -> the formats that its content may have
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), ("JPEG", "MPO")),
    **dict.fromkeys(("tif", "tiff"), ("TIFF",)),
    **dict.fromkeys(("ppm", "pgm", "pbm", "pnm"), ("PPM",)),
    **dict.fromkeys(("bmp", "dib"), ("BMP", "DIB")),
    **dict.fromkeys(("jp2", "j2k"), ("JPEG2000",)),
    "png": ("PNG",),
    "webp": ("WEBP",),
    "gif": ("GIF",),
    "npy": ("NPY",),
}
UNREADABLE = {"heic", "heif", "avif", "dcm", "dng", "nef", "cr2", "cr3", "arw", "svg", "psd", "exr", "jxl"}


def read(source: Source, *, labelled: bool, classes: int = 2) -> Table:
    """Read any source into records in a fixed order; a DataError says what was found and what would work.

    Labels must name so many `classes`: two are what it takes to learn, one is enough to be judged by.
    """
    table = _read(source, labelled)
    if not len(table):
        raise DataError(f"{table.source} holds no images")
    if not labelled:
        return replace(table, records=tuple(replace(record, label=None) for record in table), classes=())
    seen = set(table.labels.tolist())
    if len(seen) < classes:
        only = table.classes[seen.pop()]
        raise DataError(f"{table.source} has only one class, {only!r}; to tell classes apart it takes two or more")
    return table


def _read(source: Source, labelled: bool) -> Table:
    if isinstance(source, Table):
        return source
    if isinstance(source, str) and source.startswith("sample:"):
        return _sample(source)
    if isinstance(source, Image.Image):
        source = [source]
    if not isinstance(source, str | Path | Iterable):
        raise DataError(f"a {type(source).__name__} names no images; name a folder, a CSV, a file, or a list of these")
    if isinstance(source, str | Path):
        return _path(Path(source).expanduser(), labelled)
    if _is_pair(source):
        return _pair(*source)
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], Mapping):
        if labelled:
            raise DataError(
                f"the images have columns ({', '.join(map(str, source[1]))}); say which to learn: target=NAME"
            )
        return _with_columns(*source)
    if labelled:
        raise DataError("a list of images has no labels; give a pair (images, labels), class folders or a CSV")
    return Table.of(_images(source), source="the list of images")


def _path(path: Path, labelled: bool) -> Table:
    if not path.exists():
        raise DataError(f"{path} does not exist{nearest(path)}")
    if path.is_dir():
        return class_folders(path) if labelled else flat_folder(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return read_csv(path, labelled=labelled)
    if is_image(path) and not labelled:
        return Table.of([path], source=str(path))
    raise DataError(f"{path} is neither a folder nor a .csv file")


def _sample(source: str) -> Table:
    name = source.removeprefix("sample:")
    if name not in SAMPLES:
        raise DataError(f"there is no {source}; the samples are {', '.join(f'sample:{name}' for name in SAMPLES)}")
    return SAMPLES[name]()


def _is_pair(source: Sequence[Any] | np.ndarray) -> bool:
    columns = (
        isinstance(source, tuple) and len(source) == 2 and all(isinstance(c, list | tuple | np.ndarray) for c in source)
    )
    return columns and not (isinstance(source[1], np.ndarray) and source[1].ndim > 1)  # two arrays are two images


def _pair(images: Iterable[Any], labels: Iterable[Any]) -> Table:
    names = [str(label) for label in (labels.tolist() if isinstance(labels, np.ndarray) else labels)]
    classes = sorted(set(names), key=natural)
    index = {name: place for place, name in enumerate(classes)}
    return Table.of(_images(images), [index[name] for name in names], classes=classes, source="the pair of lists")


def _with_columns(images: Iterable[Any], columns: Mapping[str, Iterable[Any]]) -> Table:
    """Images and what is known of them by column name, for `target=`; None and nan stand for what is not known."""
    table = Table.of(_images(images), source="the images and columns")
    texts = {str(name): _texts(list(column)) for name, column in columns.items()}
    for name, column in texts.items():
        if len(column) != len(table):
            raise DataError(f"there are {len(table)} images but {len(column)} values of {name}")
    rows = (Row(at, {name: column[at] for name, column in texts.items()}) for at in range(len(table)))
    return replace(table, records=tuple(replace(record, row=row) for record, row in zip(table, rows, strict=True)))


def _texts(column: list[Any]) -> list[str]:
    """The words that a CSV would have for these values; in a column of lists, no list is not an empty one."""
    unknown = "?" if any(isinstance(value, list | tuple | set) for value in column) else ""
    return [unknown if value is None or (isinstance(value, float) and math.isnan(value)) else
            "|".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value).strip()
            for value in column]  # fmt: skip


def _images(items: Iterable[Any]) -> list[Path | np.ndarray]:
    images: list[Path | np.ndarray] = []
    for item in items:
        if isinstance(item, np.ndarray):
            images.append(item)
        elif isinstance(item, Image.Image):
            images.append(opened(item))
        elif isinstance(item, str | Path):
            path = Path(item).expanduser()
            images.extend(image_files(path) if path.is_dir() else [path])
        else:
            raise DataError(f"a list of images holds paths, arrays and Pillow's images, not {type(item).__name__}")
    missing = [image for image in images if isinstance(image, Path) and not image.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(images)} files do not exist, the first is {missing[0]}")
    return images


def flat_folder(folder: Path) -> Table:
    """Every image in a folder and its subfolders, without labels."""
    files = image_files(folder)
    if not files:
        raise DataError(_nothing_in(folder))
    parts = {part: split for split, part in _parts(folder).items()}
    splits = [parts.get(folder / file.relative_to(folder).parts[0]) for file in files]
    return Table.of(files, splits=splits, source=_described(folder))


def class_folders(folder: Path) -> Table:
    """One subfolder per class, perhaps below train/, val/ and test/, which then share their classes."""
    if not image_files(folder):
        raise DataError(_nothing_in(folder))
    rows = [(file, name, split) for split, part in _parts(folder).items() for name, file in _classified(part, folder)]
    classes = sorted({name for _, name, split in rows if split in ("train", None)}, key=natural)
    strangers = sorted({f"{split}/{name}" for _, name, split in rows if name not in classes})
    if strangers:
        raise DataError(f"{folder}: {', '.join(strangers)} is no class of train/, which has {', '.join(classes)}")
    index = {name: place for place, name in enumerate(classes)}
    records = tuple(Record(file, label=index[name], split=split) for file, name, split in rows)
    return Table(records, tuple(classes), _described(folder))


def _parts(folder: Path) -> dict[str | None, Path]:
    """The folders train/, val/ and test/, where there is the first and no other has images; or the folder itself."""
    filled = [entry for entry in _subfolders(folder) if image_files(entry)]
    parts: dict[str | None, Path] = {
        SPLITS[entry.name.lower()]: entry for entry in filled if entry.name.lower() in SPLITS
    }
    return parts if "train" in parts and len(parts) == len(filled) else {None: folder}


def _classified(part: Path, folder: Path) -> list[tuple[str, Path]]:
    rows = [(entry.name, file) for entry in _subfolders(part) for file in image_files(entry)]
    loose = [entry for entry in part.iterdir() if entry.is_file() and is_image(entry)]
    if not rows:
        tables = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix.lower() in (".csv", ".tsv")]
        hint = f" (there is {tables[0]}: name that file)" if tables else ""
        raise DataError(
            f"{part} holds {len(loose)} images but no class folders; labels can come from folders "
            f"{folder.name}/CLASS/image.png or {folder.name}/train/CLASS/image.png (and val/, test/), "
            f"or from a CSV file with the columns path,label{hint}"
        )
    if loose:
        raise DataError(
            f"{len(loose)} images lie beside the class folders of {part} and so have no class: {loose[0].name}"
        )
    return rows


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder in natural order (2 before 10), without hidden files and folders."""
    return sorted((file for file in _files(folder) if is_image(file)), key=lambda file: natural(str(file)))


def is_image(file: Path) -> bool:
    """True when the file's extension is one of an image format that can be read."""
    return file.suffix[1:].lower() in EXTENSIONS and not file.name.startswith(".")


def _subfolders(folder: Path) -> list[Path]:
    entries = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: natural(entry.name))


def _files(folder: Path) -> Iterable[Path]:
    visited: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in visited:  # a link back to a folder above
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in files)


def _extensions(folder: Path) -> dict[str, int]:
    return dict(Counter(file.suffix[1:].lower() or "(none)" for file in _files(folder)).most_common())


def _described(folder: Path) -> str:
    """Name the folder, and the pictures in it that nobody here can read, lest they go missing in silence."""
    unread = [f"{count} .{extension}" for extension, count in _extensions(folder).items() if extension in UNREADABLE]
    return f"{folder} (without {', '.join(unread)} files, which cannot be read)" if unread else str(folder)


def _nothing_in(folder: Path) -> str:
    found = ", ".join(f"{count} .{extension}" for extension, count in list(_extensions(folder).items())[:6])
    readable = " ".join(extension for extension in EXTENSIONS)
    return f"{folder} holds no images; it has {found or 'no files at all'}; readable are {readable}"
