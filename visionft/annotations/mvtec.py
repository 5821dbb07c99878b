"""MVTec AD, MVTec LOCO, VisA as split for PyTorch: train/good, test/KIND, and the masks in ground_truth/KIND."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from visionft.annotations.marked import GOOD, Marked, is_good, marked, mask_files
from visionft.data.sources import image_files, is_image
from visionft.data.tables import SPLITS
from visionft.errors import DataError

TRUTH = "ground_truth"
Masks = dict[tuple[str, str], list[Path]]  # kind, name of the photo -> its masks


def find(path: Path) -> list[Path]:
    """The folder, when it has train/, test/ and ground_truth/."""
    return [path] if all((path / part).is_dir() for part in ("train", "test", TRUTH)) else []


def read(path: Path, good: Collection[str] = GOOD) -> list[Marked]:
    """Read one product; every defect of test/ has masks (NAME_mask.png, NAME.png or NAME/*.png), every mask a photo."""
    masks = _masks(path / TRUTH)
    records, bare = [], []
    for photo, kind, split in _photos(path):
        files = masks.pop((kind, photo.stem), []) if split == "test" else []
        if not is_good(kind, good) and not files:
            bare.append(photo)
        records.append(marked(photo, mask_files(files, kind, good), good, kind=kind, split=split))
    if bare:
        raise DataError(
            f"{path}: {len(bare)} photos with a defect have no mask, the first is {bare[0]}; it belongs in "
            f"{TRUTH}/{bare[0].parent.name}/{bare[0].stem}_mask.png (photos in train/ must be good)"
        )
    if masks:
        (first, *_), *_ = masks.values()
        raise DataError(f"{path}: {len(masks)} masks belong to no photo of test/ (or to two), the first is {first}")
    return records


def _photos(path: Path) -> list[tuple[Path, str, str]]:
    """Every photo with its kind and split."""
    parts = [part for part in sorted(path.iterdir()) if part.name.lower() in SPLITS and part.is_dir()]
    loose = [file for part in parts for file in sorted(part.iterdir()) if file.is_file() and is_image(file)]
    if loose:
        raise DataError(f"{path}: {len(loose)} photos lie in no folder that names their kind, the first is {loose[0]}")
    return [
        (file, file.relative_to(part).parts[0], SPLITS[part.name.lower()])
        for part in parts for file in image_files(part)
    ]  # fmt: skip


def _masks(truth: Path) -> Masks:
    masks: Masks = defaultdict(list)
    for file in image_files(truth):
        kind, *names = file.relative_to(truth).parts
        name = names[0] if len(names) > 1 else file.stem.removesuffix("_mask")
        masks[kind, name].append(file)
    return masks
