"""What has been forgotten? Features and answers on retained images before and after, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionft.arrays import Floats
from visionft.data.views import Views, batches
from visionft.errors import DataError
from visionft.features import EVALUATION, answering

from .bootstrap import mean_of, named
from .worth import Worth

LEVELS = 4  # of a network whose stages cannot be told from its resolutions


def cka(one: Floats, other: Floats) -> float:
    """Linear centred kernel alignment of N D and N E features of the same images, 0 to 1 (arXiv:1905.00414).

    1 when one is the other rotated and scaled. Raises DataError when the images differ in number or a side is constant.
    """
    if len(one) != len(other):
        raise DataError(f"CKA compares features of the same images, not of {len(one)} and {len(other)}")
    a, b = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64) for x in (one, other))
    across, within = np.linalg.norm(a.T @ b) ** 2, np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    if within == 0:
        raise DataError("CKA of features that are the same for all images is not defined")
    return float(across / within)


def drift(before: Floats, after: Floats) -> float:
    """Length of the change of features over their length, |after - before| / |before|, over all images."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@dataclass(frozen=True)
class Known:
    """What a backbone makes of N retained images."""

    features: Tensor  # N D, pooled
    said: np.ndarray | None = None  # N, the answers of the classifier that came with the weights
    right: np.ndarray | None = None  # N bool: whether they are true, where that can be told
    worth: Worth | None = None  # kNN and probe, cross-validated, where there are labels enough


@torch.no_grad()
def stages(backbone: Any, pixels: Sequence[np.ndarray], size: int, batch: int = 64) -> dict[str, Floats]:
    """Mean over places of the feature maps at the end of every stage, N C each, by the stage's name in timm."""
    places, found = levels(backbone), []
    data = Views(pixels, EVALUATION, {"image": size}, channels=backbone.channels)
    modes, device = backbone.training, backbone.mean.device
    backbone.eval().to(memory_format=torch.channels_last)
    with answering(backbone):
        for part in batches(data, batch):
            maps = backbone.maps(part["image"].to(device), [*places.values()])
            found.append([each.float().mean((2, 3)).cpu() for each in maps])
    backbone.train(modes)
    return {name: torch.cat(rows).numpy() for name, rows in zip(places, zip(*found, strict=True), strict=True)}


def levels(backbone: Any) -> dict[str, int]:
    """Which of a network's feature maps end a stage: the last of each resolution; quarters where there is only one."""
    info = list(backbone.net.feature_info)
    last = {level["reduction"]: i for i, level in enumerate(info)}
    places = sorted(last.values())
    if len(places) < 2:
        places = sorted({round(len(info) * q / LEVELS) - 1 for q in range(1, LEVELS + 1)} - {-1})
    return {info[i]["module"]: i for i in places}


def compare(before: Known, after: Known) -> dict[str, float]:
    """Plain numbers, with 95 % bootstrap intervals over the images as `_low`, `_high`; `_change` is paired.

    cka and drift of the pooled features; agreement, how often the old classifier says what it said; old_accuracy, how
    often it is right; knn_accuracy and probe_accuracy, what the features would be worth to a new one.
    """
    one, other = (known.features.numpy() for known in (before, after))
    found = {"cka": cka(one, other), "drift": drift(one, other)}
    if before.said is not None and after.said is not None:
        found |= named("agreement", mean_of(before.said == after.said))
    for name, then, now in _hits(before, after):
        found |= named(name, mean_of(now)) | named(f"{name}_change", mean_of(now.astype(float) - then.astype(float)))
    return found


def headline(metrics: Mapping[str, float]) -> str:
    """The name of the one number that says most of what was kept."""
    return next(name for name in ("old_accuracy", "probe_accuracy", "agreement", "cka") if name in metrics)


def front(rows: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of these pairs no other pair beats: is at least as high in both and higher in one (Pareto)."""
    return [not any(a >= own_a and b >= own_b and (a, b) != (own_a, own_b) for a, b in rows) for own_a, own_b in rows]


def _hits(before: Known, after: Known) -> list[tuple[str, np.ndarray, np.ndarray]]:
    found = []
    if before.right is not None and after.right is not None:
        found.append(("old_accuracy", before.right, after.right))
    if before.worth is not None and after.worth is not None:
        found.append(("knn_accuracy", before.worth.knn, after.worth.knn))
        found.append(("probe_accuracy", before.worth.probe, after.worth.probe))
    return found
