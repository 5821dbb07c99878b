"""Where overlapping tiles lie in an image, and how what is said of them becomes one map without seams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from visionft.arrays import Floats


@dataclass(frozen=True)
class Tiles:
    """Where overlapping tiles of one size lie in an image, and how what they say becomes one map without seams."""

    height: int
    width: int
    side: tuple[int, int]  # of a tile
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, height: int, width: int, tile: int, overlap: float) -> Tiles:
        """As few as overlap by at least so much of their side, evenly spread; one where the image is no larger."""
        rows, columns = (_starts(side, min(side, tile), overlap) for side in (height, width))
        side = min(height, tile), min(width, tile)
        return cls(height, width, side, tuple((top, left) for top in rows for left in columns))

    def cut(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """H W C -> the tiles, h w C each."""
        for top, left in self.corners:
            yield image[top : top + self.side[0], left : left + self.side[1]]

    def joined(self, maps: Sequence[Floats], stride: float) -> Floats:
        """Maps of the tiles (h w each, a value every `stride` pixels) -> one map, weighed towards tiles' middles."""
        if len(maps) == 1:
            return maps[0]
        rows, columns = (max(1, round(side / stride)) for side in (self.height, self.width))
        total, weight = np.zeros((rows, columns)), np.zeros((rows, columns))
        for (top, left), own in zip(self.corners, maps, strict=True):
            y, x = min(round(top / stride), rows - own.shape[0]), min(round(left / stride), columns - own.shape[1])
            window = np.outer(_hill(own.shape[0]), _hill(own.shape[1]))
            total[y : y + own.shape[0], x : x + own.shape[1]] += window * own
            weight[y : y + own.shape[0], x : x + own.shape[1]] += window
        found: Floats = total / weight.clip(1e-9)
        return found


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if side >= length:
        return [0]
    count = 1 + -(-(length - side) // max(1, int(side * (1 - overlap))))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _hill(length: int) -> Floats:
    """Rises to the middle and falls, never 0."""
    at = (np.arange(length) + 0.5) / length
    found: Floats = np.minimum(at, 1 - at)
    return found
