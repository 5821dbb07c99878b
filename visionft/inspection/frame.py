"""Which part of every photo is looked at: inside a border and a region; and how maps find their way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from visionft.arrays import Bools, Floats
from visionft.data.decode import pixels
from visionft.data.records import Record
from visionft.errors import ConfigError, DataError

from .where import grown

BENT = 0.02  # relative difference of aspect from which a region is not of these photos
Box = tuple[int, int, int, int]  # top, bottom, left, right; ends excluded


@dataclass(frozen=True)
class Frame:
    """Cuts photos to what counts; what a region leaves out is painted in the mean colour of what is left.

    border: pixels that are cut off at the top, the right, the bottom and the left
    region: H W, where a photo counts; photos of another resolution are of the same aspect
    """

    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    region: Bools | None = None

    @classmethod
    def of(cls, border: int | Sequence[int] = 0, region: str | Path | None = None) -> Frame:
        """From one border for all sides, or four as CSS orders them, and a picture whose dark pixels do not count."""
        sides = [border] * 4 if isinstance(border, int) else list(border)
        if len(sides) != 4 or min(sides) < 0:
            raise ConfigError(
                f"border={border} is one number of pixels, or four: top, right, bottom, left; none below 0"
            )
        if region is None:
            top, right, bottom, left = sides
            return cls((top, right, bottom, left))
        if any(sides):
            raise ConfigError("a region says it all: paint the border dark in it, and leave border=0")
        mask = pixels(Record(Path(region)), channels=1)[..., 0] > 127
        if not mask.any():
            raise DataError(f"{region} is dark everywhere: white is what counts")
        return cls(region=mask)

    @property
    def whole(self) -> bool:
        """Whether everything counts."""
        return self.region is None and not any(self.border)

    @property
    def inside(self) -> Bools | None:
        """Where a photo that was cut counts, at the region's resolution; None where it does everywhere."""
        if self.region is None:
            return None
        top, bottom, left, right = _bounds(self.region)
        return self.region[top:bottom, left:right]

    def box(self, height: int, width: int) -> Box:
        """What is left of a photo of this size once it is cut. Raises DataError where nothing is, or it is bent."""
        if self.region is not None:
            return _scaled(self.region, height, width)
        top, right, bottom, left = self.border
        box = top, height - bottom, left, width - right
        if box[0] >= box[1] or box[2] >= box[3]:
            raise DataError(f"a photo of {width} x {height} has nothing left inside border={list(self.border)}")
        return box

    def cut(self, image: np.ndarray) -> np.ndarray:
        """H W C -> h w C."""
        if self.whole:
            return image
        top, bottom, left, right = self.box(*image.shape[:2])
        part = image[top:bottom, left:right]
        inside = self.inside
        if inside is None:
            return part
        counts = fitted(inside, part.shape[0], part.shape[1])
        return np.where(counts[..., None], part, part[counts].mean(0).round().astype(np.uint8))

    def back(self, heat: Floats, height: int, width: int) -> Floats:
        """A map of what was cut (h w) -> of the photo, H W; what does not count is -inf."""
        if self.whole:
            return grown(heat, height, width)
        top, bottom, left, right = self.box(height, width)
        found: Floats = np.full((height, width), -np.inf)
        part, inside = grown(heat, bottom - top, right - left), self.inside
        counts = inside is None or fitted(inside, bottom - top, right - left)
        found[top:bottom, left:right] = np.where(counts, part, -np.inf)
        return found


WHOLE = Frame()


class Framed(Sequence[np.ndarray]):
    """Photos that are cut as they are read, and the size that each had (H, W) once it was."""

    def __init__(self, photos: Sequence[np.ndarray], frame: Frame) -> None:
        self.photos, self.frame = photos, frame
        self.sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, at: int) -> np.ndarray:  # type: ignore[override]
        photo = self.photos[at]
        self.sizes[at] = photo.shape[0], photo.shape[1]
        return self.frame.cut(photo)


def fitted(mask: Bools, height: int, width: int) -> Bools:
    """A mask at another resolution; no place of it is lost, as long as there is one for it."""
    if mask.shape == (height, width):
        return mask
    found: Bools = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.5
    return found if found.any() else np.ones((height, width), bool)


def _bounds(mask: Bools) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _scaled(region: Bools, height: int, width: int) -> Box:
    """The bounds of a region in a photo of this size."""
    down, across = height / region.shape[0], width / region.shape[1]
    if abs(down / across - 1) > BENT:
        own = f"{region.shape[1]} x {region.shape[0]}"
        raise DataError(f"the region of {own} is not of the same aspect as a photo of {width} x {height}")
    top, bottom, left, right = _bounds(region)
    return round(top * down), round(bottom * down), round(left * across), round(right * across)
