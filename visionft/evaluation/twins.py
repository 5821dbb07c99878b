"""Has the network seen its test images before? Identical and nearly identical pictures on both sides of a split.

For every test image the training images with the nearest features are compared with it pixel by pixel, small, in gray,
over little shifts, after what all images share was taken out. How alike is alike? As much as an image is to its own
copy that was shrunk, shifted, brightened and saved as JPEG; but more than images of different classes are. Turned and
mirrored copies are not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from visionft.arrays import Floats

from .worth import Labelled

SIDE, REACH = 48, 2  # pixels of the compared pictures, and by how many they may be shifted
NEAREST = 5
COPIES = 200
SHIFTS = [(y, x) for y in range(2 * REACH + 1) for x in range(2 * REACH + 1)]
UNMOVED = len(SHIFTS) // 2
FOUND = 0.95  # share of an image's own copies that the threshold would find, if other images allow it


@dataclass(frozen=True)
class Twin:
    """A test image and its likest training image; places in their tables."""

    test: int
    train: int
    likeness: float  # correlation; 1 for identical files
    identical: bool


@dataclass(frozen=True)
class Twins:
    """At most one twin for every test image, the likest first; the threshold, and the share of copies it finds."""

    pairs: tuple[Twin, ...]
    tested: int
    threshold: float
    sensitivity: float

    @property
    def words(self) -> str:
        """What was found, by which method; a warning where the test is too easy."""
        how = (
            f"Compared were files, and each test image with the {NEAREST} training images of the nearest features: "
            f"gray, {SIDE} x {SIDE} pixels, shifted by up to {REACH}, less what all images share; a correlation of "
            f"{self.threshold:.3f} counts, which finds {self.sensitivity:.0%} of copies that were shrunk, brightened, "
            f"shifted and saved as JPEG. Mirrored and turned copies are not found."
        )
        if not self.pairs:
            return f"No test image has a twin among the training images.\n\n{how}"
        same = sum(pair.identical for pair in self.pairs)
        return (
            f"Warning: {len(self.pairs)} of {self.tested} test images have a twin among the training images ({same} "
            f"identical files, {len(self.pairs) - same} nearly identical), so the test may be too easy. If they show "
            f"the same thing, remove them, or give what belongs together a group and set by_group=true.\n\n{how}"
        )


def twins(test: Labelled, train: Labelled, z_test: Tensor, z_train: Tensor, *, seed: int = 0) -> Twins:
    """Find them; features (N D and M D) of any network rank the candidates."""
    centre = z_train.mean(0)
    cosine = F.normalize(z_test - centre, dim=1) @ F.normalize(z_train - centre, dim=1).T
    near = cosine.topk(min(NEAREST, len(z_train)), dim=1).indices.numpy()
    common = np.mean([thumbnail(p) for p in train.pixels], axis=0)
    still = {j: seen(thumbnail(train.pixels[j]), common)[UNMOVED] for j in np.unique(near)}
    alike = np.array([(seen(thumbnail(image), common) @ np.stack([still[j] for j in row]).T).max(axis=0)
                      for image, row in zip(test.pixels, near, strict=True)])  # fmt: skip
    copies = _copies(train.pixels, common, seed)
    identical = _identical(test, train)
    threshold = max(float(np.quantile(copies, 1 - FOUND)), _unlike(alike, near, test, train, identical))
    found = {i: Twin(i, int(near[i, j]), float(alike[i, j]), False) for i, j in enumerate(alike.argmax(1))
             if alike[i, j] > threshold}  # fmt: skip
    found |= identical
    pairs = sorted(found.values(), key=lambda twin: -twin.likeness)
    return Twins(tuple(pairs), len(test.table), threshold, float((copies > threshold).mean()))


def likeness(one: Floats, other: Floats, common: Floats) -> float:
    """The greatest correlation of two thumbnails over shifts, of what neither light nor the common picture explains."""
    return float((seen(one, common) @ seen(other, common)[UNMOVED]).max())


def seen(small: Floats, common: Floats) -> Floats:
    """A thumbnail through a window that moves, less the common picture, which does not: shifts x pixels, length 1."""
    known = _units(_windows(common))[UNMOVED]
    rows = _units(_windows(small))
    return _units(rows - np.outer(rows @ known, known))


def _windows(small: Floats) -> Floats:
    side = SIDE - 2 * REACH
    return np.stack([small[y : y + side, x : x + side].ravel() for y, x in SHIFTS])


def thumbnail(image: np.ndarray) -> Floats:
    """H W C uint8 -> SIDE SIDE, gray."""
    gray = np.asarray(image, dtype=np.float32).mean(axis=2)
    small: Floats = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    return small


def _units(rows: Floats) -> Floats:
    """Rows without mean, of length 1; zero where nothing varies but by rounding."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1e-6, centred / length.clip(1e-12), 0.0)


def copied(image: np.ndarray) -> np.ndarray:
    """The same picture, as it may come again: shifted by 2 %, three quarters the size, a tenth brighter, JPEG."""
    down, right = (round(0.02 * side) for side in image.shape[:2])
    cut = np.ascontiguousarray(image[down:, right:, : 3 if image.shape[2] >= 3 else 1])
    moved = cv2.copyMakeBorder(cut, 0, down, 0, right, cv2.BORDER_REPLICATE)
    small = cv2.resize(moved, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", (1.1 * small).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])
    again = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    return again[..., None] if again.ndim == 2 else again


def _copies(pixels: Sequence[np.ndarray], common: Floats, seed: int) -> Floats:
    """How like images are to their own copies."""
    some = np.random.default_rng(seed).permutation(len(pixels))[:COPIES]
    pairs = ((pixels[i], copied(pixels[i])) for i in some)
    return np.array([likeness(thumbnail(copy), thumbnail(image), common) for image, copy in pairs])


def _unlike(alike: Floats, near: np.ndarray, test: Labelled, train: Labelled, same: Mapping[int, Twin]) -> float:
    """How like a training image of another class is to a test image, at most, but for one of a hundred test images."""
    other = train.table.labels[near] != test.table.labels[:, None]
    other[list(same)] = False  # the same picture with two labels would say that nothing can be told
    most = np.where(other, alike, 0.0).max(axis=1)
    return float(np.quantile(most, 0.99))


def _identical(test: Labelled, train: Labelled) -> dict[int, Twin]:
    first: dict[str, int] = {}
    for at, record in enumerate(train.table):
        first.setdefault(record.digest, at)
    return {at: Twin(at, first[record.digest], 1.0, True) for at, record in enumerate(test.table)
            if record.digest and record.digest in first}  # fmt: skip
