"""Where a defect is: a polygon, a box, a bitmap or a mask file, and how each of them becomes pixels.

Coordinates are pixels of the upright photo, x to the right and y down: the first pixel covers 0 to 1, the whole photo
0 to width and 0 to height. A polygon or box marks the pixels whose centre is inside, so shapes that touch share none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionft.data.picture import Picture, picture
from visionft.errors import DataError

Point = tuple[float, float]  # x, y
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Polygon:
    """A closed outline; where it crosses itself, what it encloses twice is outside."""

    kind: str
    points: tuple[Point, ...]

    def draw(self, mask: Bools) -> None:
        """Mark it in `mask` (H W)."""
        _fill(mask, self.points)


@dataclass(frozen=True)
class Box:
    """An upright rectangle: the defect is somewhere in it, so its corners are rarely defective."""

    kind: str
    left: float
    top: float
    right: float
    bottom: float

    def draw(self, mask: Bools) -> None:
        """Mark it in `mask` (H W)."""
        left, top, right, bottom = self.left, self.top, self.right, self.bottom
        _fill(mask, ((left, top), (right, top), (right, bottom), (left, bottom)))


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Pixels (h w) that begin at a place in the photo."""

    kind: str
    left: int
    top: int
    pixels: Bools

    def draw(self, mask: Bools) -> None:
        """Mark it in `mask` (H W), without what lies outside."""
        height, width = self.pixels.shape
        top, left = max(self.top, 0), max(self.left, 0)
        place = mask[top : max(self.top + height, 0), left : max(self.left + width, 0)]
        place |= self.pixels[top - self.top :, left - self.left :][: place.shape[0], : place.shape[1]]


@dataclass(frozen=True)
class MaskFile:
    """An image as large as the photo, or of its proportions, that is not black where the defect is."""

    kind: str
    file: Path

    def draw(self, mask: Bools) -> None:
        """Mark it in `mask` (H W). Raises DataError when the file is not a picture, or not one of this photo."""
        height, width = mask.shape
        marks = marks_of(self.file)
        if abs(marks.shape[0] - marks.shape[1] * height / width) > 1:
            raise DataError(
                f"{self.file} is {marks.shape[1]} x {marks.shape[0]}, its photo {width} x {height} (width x height); "
                "a mask has the proportions of its photo"
            )
        mask |= cv2.resize(marks.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0


Shape = Polygon | Box | Bitmap | MaskFile


def drawn(shapes: Iterable[Shape], height: int, width: int) -> Bools:
    """Every pixel that any of the shapes marks, H W; height and width are those of the upright photo."""
    mask = np.zeros((height, width), bool)
    for shape in shapes:
        shape.draw(mask)
    return mask


def marks_of(file: Path) -> Bools:
    """The pixels of a mask file that are neither black nor transparent."""
    image = decoded(file)
    dark = 127 if image.format in ("JPEG", "MPO") else 0  # JPEG smears what it stores: its black is not quite zero
    lit: Bools = image.pixels[..., :3].max(axis=2) > dark
    return lit & (image.pixels[..., 3] > 0) if image.kind == "rgba" else lit


def decoded(file: Path) -> Picture:
    """The upright pixels of an image file at its own depth; a DataError names the file."""
    try:
        return picture(file.read_bytes())
    except DataError as error:
        raise DataError(f"{file} {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _fill(mask: Bools, points: Sequence[Point]) -> None:
    """Mark the pixels whose centre lies inside; of a shape too thin to hold one, those that its outline crosses."""
    x, y = np.array(points).T
    left, right = _first(x.min(), mask.shape[1]), _first(x.max(), mask.shape[1])
    top, bottom = _first(y.min(), mask.shape[0]), _first(y.max(), mask.shape[0])
    inside = _inside([(px - left, py - top) for px, py in points], bottom - top, right - left)
    if inside.any():
        mask[top:bottom, left:right] |= inside
        return
    outline, ends = np.zeros(mask.shape, np.uint8), np.nextafter([x.max(), y.max()], -np.inf)
    cells = np.floor(np.minimum(np.transpose([x, y]), ends)).astype(np.int32)  # what ends at 8 does not reach pixel 8
    cv2.polylines(outline, [cells], isClosed=True, color=1)
    mask |= outline > 0


def _inside(points: Sequence[Point], height: int, width: int) -> Bools:
    """Walk every row from the left: each edge that is crossed turns outside into inside, and back."""
    crossed = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in pairwise([*points, points[0]]):
        rows = np.arange(_first(min(y0, y1), height), _first(max(y0, y1), height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.ceil(x - 0.5).clip(0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width]


def _first(edge: float, end: int) -> int:
    """The first of `end` pixels whose centre is not before `edge`."""
    return int(np.clip(np.ceil(edge - 0.5), 0, end))
