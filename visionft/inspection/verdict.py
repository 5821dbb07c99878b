"""What an inspector says of one image: stop or go, how surely, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionft.arrays import Bools, Floats

from . import where
from .frame import Frame, fitted
from .where import Region, Scale

FOREIGN = 0.5  # of a photo: where more is marked, it is not that of such a part
HOTTEST = 0.75  # of the way from good parts to the hottest place: what is marked where nothing reaches the mark


@dataclass(frozen=True)
class Verdict:
    """The decision on an image, and a map in its own pixels, made when it is asked for."""

    image: str
    score: float  # rising with how unlike good parts it is, never clamped
    p_value: float  # how often a good part scores as high or higher
    reject: bool
    each: tuple[float, ...]  # what each eye says, in standard deviations of good parts
    places: Floats  # h w, of what the frame leaves of the photo, and coarser
    size: tuple[int, int]  # of the photo, H W
    frame: Frame
    scale: Scale
    mm_per_pixel: float | None
    source: Sequence[np.ndarray]  # decoded when asked for
    at: int  # in the source
    unsure: bool = False  # neither good nor defective can be excluded: see `doubt`

    @property
    def word(self) -> str:
        """Good, unsure or reject."""
        return "reject" if self.reject else "unsure" if self.unsure else "good"

    @property
    def passes(self) -> bool:
        """It is good, surely enough for what was promised."""
        return not self.reject and not self.unsure

    @property
    def foreign(self) -> bool:
        """More than half of it is marked, which no defect is: another product, another light, no part at all?"""
        inside = self.frame.inside
        places = self.places if inside is None else self.places[fitted(inside, *self.places.shape)]
        return self.places.size > 1 and float((places > self.scale.mark).mean()) > FOREIGN

    @property
    def remark(self) -> str:
        """What is to be said besides, if anything."""
        return "foreign: no photo of such a part?" if self.foreign else ""

    @property
    def pixels(self) -> np.ndarray:
        """The photo, H W C of uint8."""
        return self.source[self.at]

    @cached_property
    def heat(self) -> Floats:
        """H W: how unlike good parts every pixel's surroundings are."""
        return self.frame.back(self.places, *self.size)

    @cached_property
    def mark(self) -> float:
        """The heat beyond which a place is marked: the scale's, unless a photo is rejected and no place is as hot.

        Then many places are a little odd, and the hottest of them are marked, if hotter than those of good parts.
        """
        calm, peak = self.scale.calm, float(self.heat.max())
        weak = self.reject and calm < peak <= self.scale.mark
        return calm + HOTTEST * (peak - calm) if weak else self.scale.mark

    @property
    def mask(self) -> Bools:
        """H W: the pixels that are marked."""
        return where.marked(self.heat, self.mark)

    @property
    def regions(self) -> list[Region]:
        """Marked regions, the hottest first."""
        return where.regions(self.heat, self.mark)

    @property
    def overlay(self) -> np.ndarray:
        """H W 3 of uint8: the photo with what is hot in colour and marked regions outlined."""
        return where.overlay(where.shown(self.pixels), self.heat, self.scale, self.mark)

    def cells(self) -> dict[str, str]:
        """What a table says: the decision, how many regions are marked, and where and how large the hottest is."""
        regions, mm = self.regions, self.mm_per_pixel
        box: Sequence[object] = regions[0].box if regions else [""] * 4
        area = "" if not regions else f"{regions[0].area(mm):.4g}" if mm else str(regions[0].pixels)
        return {
            "image": self.image, "verdict": self.word, "p_value": f"{self.p_value:.6g}", "score": f"{self.score:.6g}",
            "foreign": "yes" if self.foreign else "", "regions": str(len(regions)),
            "area_mm2" if mm else "area_px": area,
            **{side: str(at) for side, at in zip(("left", "top", "right", "bottom"), box, strict=True)},
        }  # fmt: skip

    def __str__(self) -> str:
        told = f"{self.image}\t{self.word}\t{self.p_value:.4f}\t{self.score:.3f}"
        return "\t".join(filter(None, [told, self.remark]))
