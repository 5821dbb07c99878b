"""What an inspector says of one image: stop or go, how surely, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionft.arrays import Bools, Floats

from . import where
from .where import Region, Scale


@dataclass(frozen=True)
class Verdict:
    """The decision on an image, and a map in its own pixels, made when it is asked for."""

    image: str
    score: float  # rising with how unlike good parts it is, never clamped
    p_value: float  # how often a good part scores as high or higher
    reject: bool
    places: Floats  # h w, coarser than the photo
    size: tuple[int, int]  # of the photo, H W
    scale: Scale
    source: Sequence[np.ndarray]  # decoded when asked for
    at: int  # in the source

    @property
    def pixels(self) -> np.ndarray:
        """The photo, H W C of uint8."""
        return self.source[self.at]

    @cached_property
    def heat(self) -> Floats:
        """H W: how unlike good parts every pixel's surroundings are."""
        return where.grown(self.places, *self.size)

    @property
    def mask(self) -> Bools:
        """H W: the pixels that are marked."""
        return where.marked(self.heat, self.scale.mark)

    @property
    def regions(self) -> list[Region]:
        """Marked regions, the hottest first."""
        return where.regions(self.heat, self.scale.mark)

    @property
    def overlay(self) -> np.ndarray:
        """H W 3 of uint8: the photo with what is hot in colour and marked regions outlined."""
        return where.overlay(where.shown(self.pixels), self.heat, self.scale)

    def __str__(self) -> str:
        return f"{self.image}\t{'reject' if self.reject else 'good'}\t{self.p_value:.4f}\t{self.score:.3f}"
