"""Is a group served worse? Refit the last layer on frozen features with every group counting alike (arXiv:2204.02937).

Deep feature reweighting: what separates the classes is mostly in the features already; it is the last layer that leans
on what is typical of the large groups. So many heads are fitted on random parts of the images in which every class has
as many images of every group, and averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.errors import DataError

from .bootstrap import crossed
from .folds import copies, fold_of
from .probe import Probe, fit_probe

DRAWS = 10
FEWEST = 10  # images of a class in a group, below which a fold would have a handful


@dataclass(frozen=True)
class Rebalanced:
    """A last layer, and what cross-validation says of it beside the one that there was."""

    weight: Tensor  # C D
    bias: Tensor  # C
    before: dict[str, float]  # accuracy on each class of each group, "group: class"
    after: dict[str, float]  # by heads fitted in the same way on other images
    gain: tuple[float, float, float]  # where it was worst, with a 95 % interval
    overall: tuple[float, float, float]  # of all images

    @property
    def words(self) -> str:
        """What the refitted layer changes, in a sentence."""
        worst, then = min(self.before.items(), key=lambda item: item[1])
        lowest, now = min(self.after.items(), key=lambda item: item[1])
        how = "proven" if self.gain[1] > 0 else "not proven" if self.gain[2] >= 0 else "worse"
        return (
            f"worst accuracy of a class in a group: {then:.3f} ({worst}) before, {now:.3f} ({lowest}) with the last "
            f"layer refitted. {worst} changes by {_points(self.gain)}: {how}. All images together change by "
            f"{_points(self.overall)}"
        )

    def facts(self) -> dict[str, Any]:
        """Numbers and words, as plain JSON values."""
        return {"before": self.before, "after": self.after, "gain": list(self.gain), "overall": list(self.overall),
                "words": self.words}  # fmt: skip


def rebalance(
    features: Tensor,
    labels: Tensor,
    groups: Sequence[str],
    head: Probe,
    *,
    classes: Sequence[str],
    draws: int = DRAWS,
    folds: int = 5,
    seed: int = 0,
) -> Rebalanced:
    """Refit `head` on N D features of labelled images whose groups are known, and judge it by cross-validation.

    The images are best ones that the features were not trained on (validation), as the paper has it: on its own
    training images a network hardly errs, and there is nothing to reweigh. Pass no test images. Raises DataError when a
    class lacks images in a group, naming it.
    """
    cells = np.array([f"{group}: {classes[y]}" for group, y in zip(groups, labels.tolist(), strict=True)])
    _check(cells, groups, [classes[y] for y in labels.unique().tolist()])
    names, place = np.unique(cells, return_inverse=True)
    cell = torch.from_numpy(place)
    fold = fold_of(cell, folds, seed, copies(features))
    l2 = fit_probe(features, labels, classes=len(classes), seed=seed).l2
    then = (head.logits(features).argmax(1) == labels).double().numpy()
    now = np.zeros(len(labels))
    for f in range(folds):
        rest, out = fold != f, fold == f
        fitted = _balanced(features[rest], labels[rest], cell[rest], len(classes), l2, draws, seed)
        now[out.numpy()] = (fitted.logits(features[out]).argmax(1) == labels[out]).double().numpy()
    before, after = ({str(n): float(hits[cells == n].mean()) for n in names} for hits in (then, now))
    worst = cells == min(before, key=before.__getitem__)
    final = _balanced(features, labels, cell, len(classes), l2, draws, seed)
    gain, overall = (crossed((now - then)[which][None]) for which in (worst, np.ones(len(cells), dtype=bool)))
    return Rebalanced(final.weight, final.bias, before, after, gain, overall)


def _balanced(features: Tensor, labels: Tensor, cell: Tensor, classes: int, l2: float, draws: int, seed: int) -> Probe:
    """The mean of probes, each fitted on as many images of every cell as the smallest has."""
    count = int(cell.bincount().min())
    generator = torch.Generator().manual_seed(seed)
    heads = []
    for _ in range(draws):
        shuffled = torch.randperm(len(cell), generator=generator)
        some = torch.cat([shuffled[cell[shuffled] == c][:count] for c in range(int(cell.max()) + 1)])
        heads.append(fit_probe(features[some], labels[some], classes=classes, l2=l2))
    weight, bias = (torch.stack([getattr(h, name) for h in heads]).mean(0) for name in ("weight", "bias"))
    return Probe(weight, bias, l2)


def _check(cells: np.ndarray, groups: Sequence[str], classes: Sequence[str]) -> None:
    if len(set(groups)) < 2:
        raise DataError(f"all images are of one group ({groups[0]}): there is nothing to balance")
    for wanted in (f"{group}: {name}" for group in sorted(set(groups)) for name in classes):
        if (count := int((cells == wanted).sum())) < FEWEST:
            raise DataError(f"there are {count} images of {wanted}, and it takes {FEWEST} to balance groups")


def _points(change: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in change)
    return f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})"
