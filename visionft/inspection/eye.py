"""One way of judging images: how they are looked at, what scores the patches, and how places become one number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Bools, Floats
from visionft.backbone import Backbone
from visionft.data.prepare import Chosen
from visionft.errors import ConfigError
from visionft.features import resting

from .frame import fitted
from .scorer import Scorer
from .scorers import make, words
from .sight import Sight

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

    A number and not a share: a defect is as large in a large image as in a small one.
    """

    sight: Sight
    scorer: Scorer
    top: int = 10

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"top={self.top} is a number of places, 1 or more")

    def fit(
        self, backbone: Backbone, images: Sequence[np.ndarray], folds: int, progress: Progress | None = None
    ) -> None:
        """Learn from good images, H W C each; image i belongs to fold i % folds."""
        self.scorer.fit(self.stream(backbone, images, folds, progress), folds)

    def stream(
        self, backbone: Backbone, images: Sequence[np.ndarray], folds: int, progress: Progress | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What a scorer learns from: patches of images, H W C each, and the fold of each, i % folds of image i."""
        with torch.no_grad(), resting(backbone):  # in full precision: distances need all digits
            for patches, owners in self.sight.stream(backbone, images, []):
                yield patches, torch.tensor([owner % folds for owner in owners])
                if progress:
                    progress(owners[-1] + 1, len(images))

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


def look(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], *, inside: Bools | None = None,
    without: int | None = None,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of each image (H W C), as if a fold of the good ones had not been learnt from.

    Eyes of the same sight share their patches, which are computed once.
    """
    found: dict[int, list[Seen]] = {}
    for sight in dict.fromkeys(eye.sight for eye in eyes):
        own = [at for at, eye in enumerate(eyes) if eye.sight == sight]
        maps: dict[int, list[list[Floats]]] = {at: [[] for _ in range(len(images))] for at in own}
        sizes: list[tuple[int, int]] = []
        with torch.no_grad(), resting(backbone):
            for patches, owners in sight.stream(backbone, images, sizes):
                for at in own:
                    scores = eyes[at].scorer.score(patches, without=without)
                    for one, owner in zip(scores, owners, strict=True):
                        maps[at][owner].append(one.double().numpy())
        for at in own:
            found[at] = [eyes[at].joined(size, of, inside) for size, of in zip(sizes, maps[at], strict=True)]
    return [found[at] for at in range(len(eyes))]


def held_out(
    eyes: Sequence[Eye], backbone: Backbone, images: Sequence[np.ndarray], folds: int, *, inside: Bools | None = None,
    progress: Progress | None = None,
) -> list[list[Seen]]:  # fmt: skip
    """What each eye makes of the good images that it has learnt from, each as if its fold had not been there."""
    found: list[dict[int, Seen]] = [{} for _ in eyes]
    for fold in range(folds):
        places = range(fold, len(images), folds)
        said = look(eyes, backbone, Chosen(images, places), inside=inside, without=fold)
        for own, seen in zip(found, said, strict=True):
            own.update(zip(places, seen, strict=True))
        if progress:
            progress(fold + 1, folds)
    return [[own[at] for at in range(len(images))] for own in found]


def highest(values: Floats, count: int) -> float:
    """Mean of so many of the largest values, of all where there are no more."""
    count = min(count, values.size)
    return float(np.partition(values.ravel(), -count)[-count:].mean())
