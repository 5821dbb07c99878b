"""Where is the defect? A map in the pixels of the photo: heat in one fixed colour scale, marked regions, an overlay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from visionft.arrays import Bools, Floats

OPAQUE = 0.6  # of the colour where a place is as hot as the scale goes


@dataclass(frozen=True)
class Scale:
    """The colours of one model, the same for every image: what good parts reach is cold, what is marked is hot."""

    calm: float  # the hottest place of a typical good part
    mark: float  # beyond it, a place is marked

    @classmethod
    def of(cls, maps: Sequence[Floats], rank: int) -> Scale:
        """From maps of good parts: marked is what lies beyond the hottest places of as many of them as `rank` says."""
        peaks = np.sort([float(heat.max()) for heat in maps])
        return cls(float(np.median(peaks)), float(peaks[rank - 1]))

    def share(self, heat: Floats) -> Floats:
        """0 where a place is as calm as good parts are, 1/2 at the mark, 1 as far beyond it and further."""
        found: Floats = ((heat - self.calm) / (2 * max(self.mark - self.calm, 1e-12))).clip(0, 1)
        return found


@dataclass(frozen=True)
class Region:
    """A marked region: its box in pixels of the photo (left, top, right, bottom, ends excluded), its size, its peak."""

    box: tuple[int, int, int, int]
    pixels: int
    peak: float

    def area(self, mm_per_pixel: float) -> float:
        """Square millimetres."""
        return self.pixels * mm_per_pixel**2


def grown(heat: Floats, height: int, width: int) -> Floats:
    """A map of places (h w) on a finer grid, such as the pixels of the photo, interpolated between places."""
    if heat.shape == (height, width):
        return heat
    return cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)


def marked(heat: Floats, mark: float) -> Bools:
    """H W: which pixels are beyond the mark."""
    found: Bools = heat > mark
    return found


def regions(heat: Floats, mark: float) -> list[Region]:
    """Connected marked pixels (corners connect), the hottest first."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked(heat, mark).astype(np.uint8), connectivity=8)
    found = []
    for at in range(1, count):
        left, top, width, height, pixels = (int(value) for value in stats[at])
        inside = (slice(top, top + height), slice(left, left + width))
        peak = float(heat[inside][labels[inside] == at].max())
        found.append(Region((left, top, left + width, top + height), pixels, peak))
    return sorted(found, key=lambda region: -region.peak)


def overlay(image: np.ndarray, heat: Floats, scale: Scale, mark: float | None = None) -> np.ndarray:
    """The photo (H W 3 of uint8) with what is hot in colour and regions beyond a mark, the scale's, outlined."""
    share = scale.share(heat)
    colour = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (OPAQUE * share)[..., None]
    drawn = np.ascontiguousarray((image * (1 - weight) + colour * weight).round().astype(np.uint8))
    beyond = marked(heat, scale.mark if mark is None else mark).astype(np.uint8)
    edges, _ = cv2.findContours(beyond, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, edges, -1, (255, 64, 64), thickness=max(1, round(min(image.shape[:2]) / 300)))
    return drawn


def shown(image: np.ndarray) -> np.ndarray:
    """H W C of uint8 -> H W 3 that a screen shows: gray tripled, more than three channels cut to the first three."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
