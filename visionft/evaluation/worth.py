"""What frozen features are worth: a linear probe and a kNN on labelled images, cross-validated or tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.features import features

from .knn import knn
from .probe import Probe, fit_probe, fold_of


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

    def worth(self, backbone: Backbone, size: int, *, store: bool = False) -> dict[str, float]:
        """Cross-validated kNN and probe accuracy, and the probe's log-loss."""
        return cross_validated(self.features(backbone, size, store=store), self.labels, len(self.table.classes))


def cross_validated(z: Tensor, labels: Tensor, classes: int, folds: int = 4) -> dict[str, float]:
    """Held-out accuracy of kNN and probe over stratified folds; the probe's L2 is chosen once, on all folds."""
    chosen = fit_probe(z, labels, classes=classes, folds=folds)
    fold, hits = fold_of(labels, folds, 0), {"knn": 0, "probe": 0}
    for f in range(folds):
        out, rest = fold == f, fold != f
        probe = fit_probe(z[rest], labels[rest], classes=classes, l2=chosen.l2)
        votes = knn(z[rest], labels[rest], z[out], classes=classes)
        hits["probe"] += int((probe.logits(z[out]).argmax(1) == labels[out]).sum())
        hits["knn"] += int((votes.argmax(1) == labels[out]).sum())
    count = int((fold >= 0).sum())
    return {f"{name}_accuracy": n / count for name, n in hits.items()} | {"probe_log_loss": min(chosen.cv.values())}


def floor(z: Tensor, labels: Tensor, z_test: Tensor, classes: int) -> tuple[Probe, dict[str, Tensor]]:
    """A probe fitted on labelled features, and the probabilities (N C) that it and kNN give the test images."""
    probe = fit_probe(z, labels, classes=classes)
    return probe, {"probe": probe.probabilities(z_test), "knn": knn(z, labels, z_test, classes=classes)}
