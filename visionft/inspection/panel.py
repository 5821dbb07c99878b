"""Several eyes and one verdict: what each says, in units of how good parts differ, weighed and added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from visionft.arrays import Floats
from visionft.backbone import Backbone
from visionft.log import Console
from visionft.still import Quick

from .eye import Eye, Seen
from .frame import WHOLE, Frame, Framed
from .looking import held_out, learn, look
from .where import grown

TINY = 1e-12  # a distance of nothing at all has no logarithm


@dataclass(frozen=True)
class Calm:
    """How good parts score: the mean and the standard deviation of the logarithm of their scores."""

    mean: float
    spread: float

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> Calm:
        """From scores of good parts that nothing was learnt from."""
        logs = np.log(np.maximum(np.asarray(scores, np.float64), TINY))
        return cls(float(logs.mean()), max(float(logs.std()), 1e-6))

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Scores in standard deviations of good parts; rising, never clamped."""
        found: Floats = (np.log(np.maximum(np.asarray(scores, np.float64), TINY)) - self.mean) / self.spread
        return found


@dataclass
class Panel:
    """Eyes that look through one backbone and one frame, how good parts score in each, and what each counts."""

    backbone: Backbone
    eyes: Sequence[Eye]
    frame: Frame = WHOLE
    calm: Sequence[Calm] = ()
    weights: Sequence[float] = ()

    def fit(self, photos: Sequence[np.ndarray], folds: int, console: Console) -> list[Seen]:
        """Learn from good photos; returns what they look like to a panel that has not seen them, photo by photo."""
        images = Framed(photos, self.frame)
        learn(self.eyes, self.backbone, images, folds, console.progress("good parts"))
        progress = console.progress("good parts, held out, fold")
        held = held_out(self.eyes, self.backbone, images, folds, inside=self.frame.inside, progress=progress)
        for eye in self.eyes:
            eye.scorers.forget()
        self.calm = [Calm.of([seen.score for seen in one]) for one in held]
        self.weights = self.weights or [1 / len(self.eyes)] * len(self.eyes)
        return [self.together(each, images.sizes[at]) for at, each in enumerate(zip(*held, strict=True))]

    def see(self, photos: Sequence[np.ndarray]) -> list[Seen]:
        """Judge photos, H W C each: score and map in standard deviations of good parts' scores.

        A map is of what the frame leaves of a photo; `frame.back` brings it to the photo's own pixels.
        """
        images = Framed(photos, self.frame)
        said = look(self.eyes, self.quick(), images, inside=self.frame.inside)
        return [self.together(each, images.sizes[at]) for at, each in enumerate(zip(*said, strict=True))]

    @cached_property
    def quick(self) -> Quick:
        """The backbone for new photos: nobody trains it any more."""
        return Quick(self.backbone)

    def facts(self) -> list[dict[str, Any]]:
        """Plain JSON values, an entry for each eye."""
        pairs = zip(self.eyes, self.calm, self.weights, strict=True)
        return [{**eye.facts(), "calm": [calm.mean, calm.spread], "weight": weight} for eye, calm, weight in pairs]

    def together(self, said: Sequence[Seen], size: tuple[int, int], weights: Sequence[float] | None = None) -> Seen:
        """One number, the weighted sum over eyes, and one map, the same over eyes that judge places."""
        weights = self.weights if weights is None else weights
        scores = [float(calm(seen.score)) for calm, seen in zip(self.calm, said, strict=True)]
        own = [(calm(seen.map), weight) for calm, seen, weight in zip(self.calm, said, weights, strict=True)]
        places = [(heat, weight) for heat, weight in own if heat.size > 1] or own
        height, width = max((heat.shape for heat, _ in places), key=lambda shape: shape[0] * shape[1])
        share = sum(weight for _, weight in places) or 1.0
        joined = np.zeros((height, width))
        for heat, weight in places:
            joined += weight / share * grown(heat, height, width)
        return Seen(float(np.dot(weights, scores)), joined, size, tuple(scores))
