"""What frozen features answer before anything is trained: the floor that training must rise above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.evaluation import worth
from visionft.evaluation.probe import Probe
from visionft.log import Console

from .parts import Parts


@dataclass(frozen=True)
class Held:
    """Probabilities (M C) of images that the network did not learn from, their labels, and groups if these count."""

    p: Tensor
    labels: Tensor
    groups: Sequence[str] | None = None
    own: bool = True  # whether the network that will answer gave them, not a sister trained on fewer images

    @classmethod
    def of(cls, p: Tensor, parts: Parts) -> Held:
        """What a network says of the validation images."""
        return cls(p, parts.val.labels, parts.groups(parts.val))


@dataclass(frozen=True)
class Floor:
    """A probe of all images that may be looked at, and one of the training images alone, with what they answer."""

    features: dict[str, Tensor]  # of train, val and test, N D each
    known: Probe
    train: Probe
    test: dict[str, Tensor]  # by "probe" and "knn" of all known images: N C
    validation: dict[str, Tensor]  # by those of the training images: M C
    held: Held  # by probes of other folds


def measure_floor(backbone: Backbone, parts: Parts, size: int, console: Console) -> Floor:
    """Fit probes and kNN on features of the backbone as it is."""
    z = {
        name: part.features(backbone, size, progress=console.progress(f"features, {name}"))
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    }
    known, labels, classes = torch.cat([z["train"], z["val"]]), parts.known.labels, len(parts.train.table.classes)
    groups = parts.groups(parts.known)
    probe, test = worth.floor(known, labels, z["test"], classes, groups)
    train, validation = worth.floor(z["train"], parts.train.labels, z["val"], classes, parts.groups(parts.train))
    judged = (~probe.held.isnan().any(1)).nonzero().flatten()
    of = groups and [groups[i] for i in judged]
    return Floor(z, probe, train, test, validation, Held(probe.held[judged], labels[judged], of, own=False))
