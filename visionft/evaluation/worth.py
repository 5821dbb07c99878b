"""What frozen features are worth: a linear probe and a kNN on labelled images, cross-validated or tested."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.data.split import folds as folds_of
from visionft.features import features, seconds

from .bootstrap import mean_of, named
from .folds import fold_of, kin
from .knn import knn
from .probe import Probe, fit_probe

TIMED = 32  # images
PERCENT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Worth:
    """Of the labelled images, each held out once: which ones were told right, and the probe's log-loss."""

    knn: np.ndarray  # M bool
    probe: np.ndarray  # M bool
    log_loss: float

    def metrics(self, *, bounds: bool = False) -> dict[str, float]:
        """Accuracies and the log-loss; with `bounds`, 95 % bootstrap intervals over the images as `_low`, `_high`."""
        found: dict[str, float] = {}
        for name, hits in (("knn", self.knn), ("probe", self.probe)):
            key = f"{name}_accuracy"
            found |= named(key, mean_of(hits)) if bounds else {key: float(hits.mean())}
        return found | {"probe_log_loss": self.log_loss}

    def gain(self, base: Worth) -> tuple[float, float, float]:
        """How much more often the probe is right than that of `base`, image by image, and the 95 % interval."""
        return mean_of(self.probe.astype(np.float64) - base.probe)

    def facts(self) -> dict[str, Any]:
        """Everything, as plain JSON values; `Worth.of` reads them."""
        return {name: "".join(map(str, hits.astype(int))) for name, hits in (("knn", self.knn), ("probe", self.probe))
                } | {"log_loss": self.log_loss}  # fmt: skip

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Worth:
        """Read what `facts` wrote."""
        knn_hits, probe_hits = (np.array([hit == "1" for hit in facts[name]]) for name in ("knn", "probe"))
        return cls(knn_hits, probe_hits, facts["log_loss"])


def verdict(name: str, trained: Worth, bases: Mapping[str, Worth]) -> str:
    """Say in one sentence whether training was worth it, against the best of what was there without it."""
    best = max(bases, key=lambda base: float(bases[base].probe.mean()))
    mean, low, high = trained.gain(bases[best])
    now, then = 100 * trained.probe.mean(), 100 * bases[best].probe.mean()
    told = (
        f"the probe tells {now:.1f}{PERCENT} of the labelled images right with the {name} weights and "
        f"{then:.1f}{PERCENT} with the {best} ones, {100 * mean:+.1f} points, "
        f"95{PERCENT} interval {100 * low:+.1f} to {100 * high:+.1f}"
    )
    if low > 0:
        return f"Worth it: {told}."
    if high < 0:
        return f"Worse: {told}. The {best} weights are the better start."
    return f"No difference that can be told: {told}, which holds zero. More labelled images would narrow it."


@dataclass(frozen=True)
class Labelled:
    """Labelled images, decoded."""

    table: Table
    pixels: Sequence[np.ndarray]

    @property
    def labels(self) -> Tensor:
        """N int64."""
        return torch.from_numpy(self.table.labels)

    def features(
        self, backbone: Backbone, size: int, *, store: bool = True, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """N D, cached by content unless the weights are only passing by (`store=False`)."""
        digests = [record.digest for record in self.table]
        return features(backbone, self.pixels, digests, size=size, store=store, progress=progress)

    def halves(self, seed: int) -> tuple[Labelled, Labelled]:
        """Half of the images of every class, and the others; copies stay together. Raises DataError for too few."""
        one, other = (
            Labelled(self.table.take(places), [self.pixels[at] for at in places])
            for places in folds_of(self.table, 2, seed=seed)
        )
        return one, other

    def seconds(self, backbone: Backbone, size: int) -> float:
        """That the features of an image take, in a batch of the first few."""
        return seconds(backbone, [self.pixels[i] for i in range(min(TIMED, len(self.table)))], size=size)

    def worth(self, backbone: Backbone, size: int, *, store: bool = False) -> Worth:
        """Cross-validated kNN and probe."""
        return cross_validated(self.features(backbone, size, store=store), self.labels, len(self.table.classes))


@dataclass(frozen=True)
class HeldOut:
    """What probe and kNN say of labelled images while each of them is held out."""

    probe: Tensor  # N C probabilities
    knn: Tensor  # N C votes
    fold: Tensor  # N; -1 where an image was never held out, and its rows are nan
    log_loss: float  # of the probe, as it was when its L2 was chosen

    def hits(self, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Which images kNN and probe tell right, of those that were held out: M bool each."""
        knn_right, probe_right = ((said.argmax(1) == labels)[self.fold >= 0].numpy() for said in (self.knn, self.probe))
        return knn_right, probe_right

    def worth(self, labels: Tensor) -> Worth:
        """The same as hits and a loss."""
        return Worth(*self.hits(labels), self.log_loss)


def held_out(z: Tensor, labels: Tensor, classes: int, folds: int = 4, groups: Sequence[str] | None = None) -> HeldOut:
    """Answers of kNN and probe over stratified folds, whole groups if named; the probe's L2 is chosen once, on all."""
    chosen = fit_probe(z, labels, classes=classes, folds=folds, groups=groups)
    fold = fold_of(labels, folds, 0, kin(z, groups))
    near = torch.full((len(z), classes), torch.nan)
    for f in range(int(fold.max()) + 1):
        out, rest = fold == f, fold != f
        near[out] = knn(z[rest], labels[rest], z[out], classes=classes)
    return HeldOut(chosen.held, near, fold, min(chosen.cv.values(), default=math.nan))


def cross_validated(z: Tensor, labels: Tensor, classes: int, folds: int = 4) -> Worth:
    """Held-out answers of kNN and probe over stratified folds; the probe's L2 is chosen once, on all folds."""
    return held_out(z, labels, classes, folds).worth(labels)


def floor(
    z: Tensor, labels: Tensor, z_test: Tensor, classes: int, groups: Sequence[str] | None = None
) -> tuple[Probe, dict[str, Tensor]]:
    """A probe fitted on labelled features, and the probabilities (N C) that it and kNN give the test images."""
    probe = fit_probe(z, labels, classes=classes, groups=groups)
    return probe, {"probe": probe.probabilities(z_test), "knn": knn(z, labels, z_test, classes=classes)}
