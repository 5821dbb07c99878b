"""Would more labels help? A probe on frozen features at growing shares of the labels, judged on images held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visionft.arrays import Floats
from visionft.errors import DataError

from .bootstrap import crossed
from .folds import fold_of, kin
from .probe import fit_probe

SHARES = (0.125, 0.25, 0.5, 1.0)
MANY = 4000  # images from which the luck of a draw hardly matters: one draw is enough, and takes a third of the time


@dataclass(frozen=True)
class LearningCurve:
    """Which images a probe told right, by the number of labels that it learnt from."""

    labels: tuple[int, ...]  # S, ascending
    hits: Floats  # S draws M: 1 where a held-out image was told right

    @property
    def points(self) -> list[tuple[int, float, float, float]]:
        """Labels, accuracy and its 95 % interval, over draws of labels and of images: what `plots.growth` draws."""
        return [(n, *crossed(hits)) for n, hits in zip(self.labels, self.hits, strict=True)]

    @property
    def gain(self) -> tuple[float, float, float]:
        """What the last step up in labels added to the accuracy, image by image, and its 95 % interval."""
        return crossed(self.hits[-1] - self.hits[-2])

    @property
    def words(self) -> str:
        """One sober sentence; the next step is the last one again, which gains seldom exceed."""
        mean, low, high = (100 * value for value in self.gain)
        before, now = self.labels[-2:]
        further = round(now * now / before)
        told = (
            f"going from {before:,} to {now:,} labels changed the accuracy of a probe on frozen features by "
            f"{mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
        )
        if low > 0:
            return (
                f"More labels would probably help: {told}. Such gains shrink as labels grow, so of {further:,} labels "
                f"expect at most about as much again."
            )
        if high < 1:
            return f"More labels of this kind would hardly help: {told}."
        return (
            f"Whether more labels would help cannot be told: {told}, which holds zero. Of {further:,} labels expect no "
            f"more than {high:.1f} points."
        )

    def facts(self) -> dict[str, Any]:
        """Numbers and words, as plain JSON values."""
        return {"points": [list(point) for point in self.points], "gain": list(self.gain), "words": self.words}


def learning_curve(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    shares: Sequence[float] = SHARES,
    draws: int | None = None,
    folds: int = 4,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> LearningCurve:
    """Fit probes on growing shares of N D features, each image being judged by probes that have not seen it.

    In every draw the images are dealt to folds anew, and a probe learns from a share of all folds but one; larger
    shares hold the smaller ones, with classes in equal proportions. The penalty is chosen once a share, by
    cross-validation inside its first draw. `draws` is 3, or 1 of more than 4,000 images. `groups` (N), where they are
    named, are held out whole. A class's only image is always learnt from; shares with fewer images than classes are
    left out. Pass no test images. Raises DataError when fewer than two classes have two images, when no group can be
    left out without losing a class, or when fewer than two shares are left.
    """
    if int((labels.bincount(minlength=classes) > 1).sum()) < 2:
        raise DataError("a learning curve needs at least two classes of two images")
    draws = draws or (3 if len(labels) <= MANY else 1)
    dealt = [fold_of(labels, folds, seed + draw, kin(features, groups)) for draw in range(draws)]
    judged = (torch.stack(dealt) >= 0).all(0)
    if not judged.any():
        raise DataError("a learning curve needs groups that can be left out without losing a class")
    rest = min(int((fold != f).sum()) for fold in dealt for f in range(int(fold.max()) + 1))
    counts = sorted({round(share * rest) for share in shares if round(share * rest) >= len(labels.unique())})
    if len(counts) < 2:
        raise DataError(f"{len(labels)} labels of {len(labels.unique())} classes are too few for a learning curve")
    hits = torch.zeros(len(counts), draws, len(labels))
    for s, count in enumerate(counts):
        l2 = None
        for draw, fold in enumerate(dealt):
            for f in range(int(fold.max()) + 1):
                learnt = (fold != f).nonzero().flatten()
                learnt = learnt[nested(labels[learnt], seed + draw)[:count]]
                probe = fit_probe(features[learnt], labels[learnt], classes=classes, l2=l2)
                l2, out = probe.l2, fold == f
                hits[s, draw, out] = (probe.logits(features[out]).argmax(1) == labels[out]).float()
    return LearningCurve(tuple(counts), hits[:, :, judged].double().numpy())


def nested(labels: Tensor, seed: int) -> Tensor:
    """An order of N labels whose every beginning has the classes in the proportions of the whole, and each at once."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.zeros(len(labels), dtype=torch.float64)
    for c in labels.unique():
        own = (labels == c).nonzero().flatten()
        place[own[torch.randperm(len(own), generator=generator)]] = torch.arange(len(own)).double() / len(own)
    tie = torch.randperm(len(labels), generator=generator)
    return tie[place[tie].argsort(stable=True)]
