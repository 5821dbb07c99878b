"""One way of judging images: how they are looked at, what scores the patches, and how places become one number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Floats
from visionft.backbone import Backbone
from visionft.data.prepare import Chosen
from visionft.errors import ConfigError
from visionft.features import resting

from .scorer import Scorer
from .scorers import make, words
from .sight import BATCH, Sight

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Seen:
    """What an eye makes of an image: one number, and a map (h w) where it judges places; higher is more anomalous."""

    score: float
    map: Floats
    size: tuple[int, int]  # of the image, H W


@dataclass
class Eye:
    """A sight and a scorer; an image's score is the mean over the `top` share of its places, the highest ones."""

    sight: Sight
    scorer: Scorer
    top: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.top <= 1:
            raise ConfigError(f"top={self.top} is a share of places, above 0 and at most 1")

    def fit(
        self, backbone: Backbone, images: Sequence[np.ndarray], folds: int, progress: Progress | None = None
    ) -> None:
        """Learn from good images, H W C each; image i belongs to fold i % folds."""

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for patches, owners in self._patches(backbone, images, []):
                yield patches, torch.tensor([owner % folds for owner in owners])
                if progress:
                    progress(owners[-1] + 1, len(images))

        with torch.no_grad(), resting(backbone):  # in full precision: distances need all digits
            self.scorer.fit(stream(), folds)

    def see(self, backbone: Backbone, images: Sequence[np.ndarray], *, without: int | None = None) -> list[Seen]:
        """Judge images, H W C each, as if a fold of the good ones had not been learnt from."""
        maps: list[list[Floats]] = [[] for _ in range(len(images))]
        sizes: list[tuple[int, int]] = []
        with torch.no_grad(), resting(backbone):
            for patches, owners in self._patches(backbone, images, sizes):
                for one, owner in zip(self.scorer.score(patches, without=without), owners, strict=True):
                    maps[owner].append(one.double().numpy())
        return [self._joined(size, own) for size, own in zip(sizes, maps, strict=True)]

    def held_out(self, backbone: Backbone, images: Sequence[np.ndarray], folds: int) -> list[Seen]:
        """Judge the good images that `fit` has learnt from, each as if its fold had not been there."""
        found: dict[int, Seen] = {}
        for fold in range(folds):
            own = range(fold, len(images), folds)
            found |= zip(own, self.see(backbone, Chosen(images, own), without=fold), strict=True)
        return [found[at] for at in range(len(images))]

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"sight": self.sight.facts(), "scorer": words(self.scorer), "top": self.top}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Eye:
        """The eye, not fitted, that said these facts."""
        return cls(Sight(**facts["sight"]), make(facts["scorer"]), facts["top"])

    def _joined(self, size: tuple[int, int], maps: Sequence[Floats]) -> Seen:
        """What the tiles of an image say, together."""
        tiles = self.sight.tiles(*size)
        judges_places = maps[0].size > 1
        joined = tiles.joined(maps, tiles.side[0] / maps[0].shape[0]) if judges_places else np.max(maps, axis=0)
        return Seen(highest(joined, self.top), joined, size)

    def _patches(
        self, backbone: Backbone, images: Sequence[np.ndarray], sizes: list[tuple[int, int]]
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Patches of all tiles, B h w D, as many at once as are of one size and a batch takes, and whose they are.

        Notes the size of every image on the way: each is decoded once.
        """
        held: list[np.ndarray] = []
        owners: list[int] = []
        for at, image in enumerate(images):
            sizes.append((image.shape[0], image.shape[1]))
            for tile in self.sight.cut(image):
                if held and (len(held) == BATCH or tile.shape != held[0].shape):
                    yield self.sight.patches(backbone, _batch(held)), owners
                    held, owners = [], []
                held.append(tile)
                owners.append(at)
        if held:
            yield self.sight.patches(backbone, _batch(held)), owners


def _batch(tiles: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(tiles)).movedim(-1, 1).contiguous(memory_format=torch.channels_last)


def highest(values: Floats, share: float) -> float:
    """Mean of the largest share of some values, at least of one."""
    count = max(1, round(share * values.size))
    return float(np.partition(values.ravel(), -count)[-count:].mean())
