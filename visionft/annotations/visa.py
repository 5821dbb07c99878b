"""VisA as published: Data/Images/Normal and Anomaly, Data/Masks/Anomaly, and kinds in image_anno.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from visionft.annotations.border import text_of
from visionft.annotations.marked import GOOD, Marked, marked, mask_files
from visionft.data.sources import image_files
from visionft.errors import DataError

KINDS = "image_anno.csv"


def find(path: Path) -> list[Path]:
    """The folder of one product."""
    return [path] if all((path / "Data" / "Images" / part).is_dir() for part in ("Normal", "Anomaly")) else []


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one product; without image_anno.csv every defect is of the kind anomaly."""
    images = path / "Data" / "Images"
    photos = image_files(images / "Anomaly")
    masks = {file.stem: file for file in image_files(path / "Data" / "Masks" / "Anomaly")}
    if lone := sorted({photo.stem for photo in photos} ^ set(masks)):
        raise DataError(f"{path}: {len(lone)} photos lack a mask, or masks a photo, the first is Anomaly/{lone[0]}")
    kinds = _kinds(path / KINDS) if (path / KINDS).is_file() else {photo.name: "anomaly" for photo in photos}
    if lone := sorted({photo.name for photo in photos} ^ set(kinds)):
        raise DataError(f"{path}: {len(lone)} photos are not both there and in {KINDS}, the first is Anomaly/{lone[0]}")
    return [
        *(marked(photo, (), good) for photo in image_files(images / "Normal")),
        *(
            marked(photo, mask_files([masks[photo.stem]], kinds[photo.name], good), good, kind=kinds[photo.name])
            for photo in photos
        ),
    ]


def _kinds(file: Path) -> dict[str, str]:
    """Kinds by file name, from lines like `candle/Data/Images/Anomaly/000.JPG,"melt, scratch",...`."""
    rows = list(csv.DictReader(io.StringIO(text_of(file))))
    if bad := next((place for place, row in enumerate(rows, 2) if not row.get("image") or not row.get("label")), None):
        raise DataError(f"{file}, line {bad}: every line needs an image and a label")
    defects = [(Path(row["image"]), row["label"]) for row in rows if Path(row["image"]).parent.name == "Anomaly"]
    return {image.name: "+".join(sorted(part.strip() for part in label.split(","))) for image, label in defects}
