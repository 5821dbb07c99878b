"""One way of judging images: how they are looked at, what scores the patches, and how places become one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionft.arrays import Bools, Floats
from visionft.errors import ConfigError

from .frame import fitted
from .scorer import Scorer
from .scorers import make, words
from .sight import Sight
from .tilescorers import TileScorers


@dataclass(frozen=True)
class Seen:
    """What an eye makes of an image: one number, and a map (h w) where it judges places; higher is more anomalous."""

    score: float
    map: Floats
    size: tuple[int, int]  # of the image, H W
    each: tuple[float, ...] = ()  # of a panel, what each of its eyes says


@dataclass
class Eye:
    """A sight and a scorer; an image's score is the mean over its `top` highest places.

    top: places whose mean is an image's score; a number and no share: a defect is as large in a large image
    """

    sight: Sight
    scorer: Scorer  # of images as a whole, or like those of their tiles
    top: int = 10
    scorers: TileScorers = field(init=False, repr=False)  # which learn and judge

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"top={self.top} is a number of places, 1 or more")
        self.scorers = TileScorers(self.sight, self.scorer)

    def joined(self, size: tuple[int, int], maps: Sequence[Floats], inside: Bools | None = None) -> Seen:
        """What the tiles of an image say, together; `inside`, a mask of any resolution, says which places count."""
        tiles = self.sight.tiles(*size)
        if maps[0].size == 1:  # judges images, not places
            found: Floats = np.max(maps, axis=0)
            return Seen(float(found.max()), found, size)
        joined = tiles.joined(maps, tiles.side[0] / maps[0].shape[0])
        counts = joined if inside is None else joined[fitted(inside, *joined.shape)]
        return Seen(highest(counts, self.top), joined, size)

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"sight": self.sight.facts(), "scorer": words(self.scorer), "top": self.top}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Eye:
        """The eye, not fitted, that said these facts."""
        return cls(Sight(**facts["sight"]), make(facts["scorer"]), facts["top"])


def highest(values: Floats, count: int) -> float:
    """Mean of so many of the largest values, of all where there are no more."""
    count = min(count, values.size)
    return float(np.partition(values.ravel(), -count)[-count:].mean())
