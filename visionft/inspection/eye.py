"""One way of judging images: how they are looked at, what scores the patches, and how places become one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Bools, Floats
from visionft.backbone import Backbone
from visionft.data.prepare import Chosen
from visionft.errors import ConfigError

from .frame import fitted
from .scorer import Scorer
from .scorers import make, words
from .sight import Sight
from .stream import Owner, stream

Progress = Callable[[int, int], None]


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
    scorer: Scorer
    top: int = 10

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"top={self.top} is a number of places, 1 or more")

    def scored(self, patches: Tensor, owners: Sequence[Owner], fold: int | None) -> Tensor:
        """What its scorer says of tiles (B h w D) and whose they are; those of a fold as if it had not seen them."""
        if fold is None:
            return self.scorer.score(patches)
        whole = all(len(self.sight.tiles(*owner.size).corners) == 1 for owner in owners)
        return self.scorer.score_held(patches, fold, whole=whole)

    def joined(self, size: tuple[int, int], maps: Sequence[Floats], inside: Bools | None = None) -> Seen:
        """What the tiles of an image say, together; `inside`, a mask of any resolution, says which places count."""
        tiles = self.sight.tiles(*size)
        if maps[0].size == 1:  # judges images, not places
            found: Floats = np.max(maps, axis=0)
            return Seen(float(found.max()), found, size)
        joined = tiles.joined(maps, tiles.side[0] / maps[0].shape[0])
        counts = joined if inside is None else joined[fitted(inside, *joined.shape)]
        return Seen(highest(counts, self.top), joined, size)

    def forget(self) -> None:
        """Keep what judging new images takes, and let go of what it takes to judge those that were learnt from."""
        self.scorer.restore(self.scorer.state())

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"sight": self.sight.facts(), "scorer": words(self.scorer), "top": self.top}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Eye:
        """The eye, not fitted, that said these facts."""
        return cls(Sight(**facts["sight"]), make(facts["scorer"]), facts["top"])


def learn(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int,
    progress: Progress | None = None, *, beside: Sequence[Eye] = (),
) -> None:  # fmt: skip
    """Let eyes learn from good images, H W C each, in one pass; image i belongs to fold i % folds.

    Those `beside` them are shown the same, and are to see more before they settle.
    """
    for eye in eyes:
        eye.scorer.begin(folds)
    feed([*eyes, *beside], backbone, images, folds, progress)
    for eye in eyes:
        eye.scorer.settle()


def feed(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int,
    progress: Progress | None = None, **words: Any,
) -> None:  # fmt: skip
    """Let the scorers of eyes take images; `words` go with them."""
    for done, (patches, owners) in enumerate(stream([eye.sight for eye in eyes], backbone, images)):
        fold = torch.tensor([owner.at % folds for owner in owners])
        for eye in eyes:
            if eye.sight in patches:
                eye.scorer.take(patches[eye.sight], fold, **words)
        if progress and not done % 4:
            progress(owners[-1].at + 1, len(images))


def look(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], *, inside: Bools | None = None,
    without: int | None = None, bad: bool = False,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of each image (H W C); `without` a fold, whose images these are, as if it had not seen them.

    Of images that are `bad`, it has seen none unless it learns from defects.
    """
    maps: list[list[list[Floats]]] = [[[] for _ in range(len(images))] for _ in eyes]
    sizes: dict[int, tuple[int, int]] = {}
    for patches, owners in stream([eye.sight for eye in eyes], backbone, images):
        sizes |= dict(owners)
        for eye, own in zip(eyes, maps, strict=True):
            if eye.sight in patches:
                seen = without if eye.scorer.learns_defects or not bad else None
                for one, owner in zip(eye.scored(patches[eye.sight], owners, seen), owners, strict=True):
                    own[owner.at].append(one.double().numpy())
    return [
        [eye.joined(sizes[at], of, inside) for at, of in enumerate(own)] for eye, own in zip(eyes, maps, strict=True)
    ]


def held_out(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int, *, inside: Bools | None = None,
    progress: Progress | None = None, bad: bool = False,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of the good images, or the `bad` ones, that were shown to it, as if they had not been."""
    found: list[dict[int, Seen]] = [{} for _ in eyes]
    for fold in range(folds):
        places = range(fold, len(images), folds)
        said = look(eyes, backbone, Chosen(images, places), inside=inside, without=fold, bad=bad)
        for own, seen in zip(found, said, strict=True):
            own.update(zip(places, seen, strict=True))
        if progress:
            progress(fold + 1, folds)
    return [[own[at] for at in range(len(images))] for own in found]


def highest(values: Floats, count: int) -> float:
    """Mean of so many of the largest values, of all where there are no more."""
    count = min(count, values.size)
    return float(np.partition(values.ravel(), -count)[-count:].mean())
