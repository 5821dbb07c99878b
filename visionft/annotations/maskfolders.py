"""Class folders with masks: NAME_mask.png beside NAME.jpg, or the same tree again in masks/ or ground_truth/."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from visionft.annotations import mvtec, visa
from visionft.annotations.marked import GOOD, Marked, is_good, marked, mask_files
from visionft.annotations.shapes import marks_of
from visionft.data.sources import image_files
from visionft.data.tables import SPLITS
from visionft.errors import DataError

FOLDERS = {"masks", "mask", "ground_truth", "groundtruth", "gt", "labels"}  # in which every image is a mask
NAMED = re.compile(r"(.+?)[_-]mask(?:[_-]?\d+)?", re.IGNORECASE)  # NAME_mask, NAME-mask, NAME_mask_2
UNNAMED = "defect"  # the kind where no folder names one
Key = tuple[str, ...]  # the folders that matter, and the photo's name


def find(path: Path) -> list[Path]:
    """The folder, when it has masks, and is not one of several products with a layout of their own."""
    if not path.is_dir() or any(mvtec.find(part) or visa.find(part) for part in (path, *path.iterdir())):
        return []
    return [path] if any(_is_mask(file.relative_to(path)) for file in image_files(path)) else []


def unmasked(path: Path, good: Collection[str]) -> bool:
    """Whether this is a folder of class folders, one of them good: nobody said where defects are."""
    folders = [part for part in (path.iterdir() if path.is_dir() else ()) if part.is_dir()]
    folders += [part for folder in folders if folder.name.lower() in SPLITS for part in folder.iterdir()]
    return any(is_good(part.name, good) and image_files(part) for part in folders if part.is_dir())


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read a tree of photos and masks; the folder names the kind, without folders the mask tells good (black) from not.

    In class folders a defect may lack its mask: its kind is known then, but not its place.
    """
    photos, masks = _keyed(path)
    _one_product(path, photos, good)
    stray = [file for key, files in masks.items() if key not in photos for file in files]
    if stray:
        raise DataError(f"{path}: {len(stray)} masks belong to no photo, the first is {stray[0]}")
    twice = [files for key, files in photos.items() if len(files) > 1 and key in masks]
    if twice:
        raise DataError(f"{path}: {len(twice)} masks could belong to two photos, the first to {twice[0]}")
    unsure = [files[0] for key, files in photos.items() if not _folders(key) and key not in masks]
    if unsure:
        raise DataError(
            f"{path}: {len(unsure)} photos have neither a mask nor a folder that names their kind, the first is "
            f"{unsure[0]}; good ones belong in a folder good/"
        )
    return [_record(photo, key, masks.get(key, []), good) for key, files in photos.items() for photo in files]


def _one_product(path: Path, photos: dict[Key, list[Path]], good: Collection[str]) -> None:
    """Folders are kinds of defect, and not products, each with a folder good/ of its own."""
    for key, (first, *_) in photos.items():
        kind, *deeper = (*_folders(key), UNNAMED)
        if not is_good(kind, good) and any(is_good(part, good) for part in deeper):
            raise DataError(
                f"{path}: good parts lie below {kind}/, the first is {first}; name the folder of one product"
            )


def _record(photo: Path, key: Key, files: list[Path], good: Collection[str]) -> Marked:
    split = SPLITS.get(key[0].lower()) if len(key) > 1 else None
    kind, *_ = (*_folders(key), UNNAMED)
    if not _folders(key) and not any(marks_of(file).any() for file in files):
        return marked(photo, (), good, split=split)
    return marked(photo, mask_files(files, kind, good), good, kind=kind, split=split)


def _folders(key: Key) -> Key:
    """The folders of a key that name its kind: not a leading train/, val/ or test/."""
    return key[1:-1] if key[0].lower() in SPLITS else key[:-1]


def _keyed(path: Path) -> tuple[dict[Key, list[Path]], dict[Key, list[Path]]]:
    """Photos and masks by what they share: their folders, without images/ and masks/, and their name."""
    photos: dict[Key, list[Path]] = defaultdict(list)
    masks: dict[Key, list[Path]] = defaultdict(list)
    for file in image_files(path):
        own = file.relative_to(path)
        folders = (part for part in own.parts[:-1] if part.lower() not in {"images", *FOLDERS})
        named = NAMED.fullmatch(own.stem)
        (masks if _is_mask(own) else photos)[*folders, named[1] if named else own.stem].append(file)
    return photos, masks


def _is_mask(own: Path) -> bool:
    return bool(NAMED.fullmatch(own.stem)) or any(part.lower() in FOLDERS for part in own.parts[:-1])
