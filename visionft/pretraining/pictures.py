"""Pictures of what was learnt: nearest neighbours, a map, where the network looks, what the objective itself shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.backbone import Backbone
from visionft.data.views import Views, batches
from visionft.evaluation.looks import Pixels, attention, heated, restored, similarity
from visionft.evaluation.worth import Labelled
from visionft.features import EVALUATION
from visionft.objective import Objective
from visionft.precision import inference

QUERIES, NEAREST, SHOWN, HEADS = 10, 5, 6, 5
MAPPED = 500  # dots that can still be told apart
BANK = 256  # images that neighbours are looked for in: enough to find alike ones, few enough to cost seconds


class Sheet(NamedTuple):
    """Small pictures in rows of `columns`, each with a word or two, as `Report.gallery` takes them."""

    pictures: list[tuple[Pixels, str]]
    caption: str
    columns: int


class Map(NamedTuple):
    """N 2 points, the share of the variance that they show, and the class of each where it is known."""

    points: Any
    share: float
    labels: Any = None
    classes: tuple[str, ...] = ()


def plain(pixels: Sequence[np.ndarray], size: int, channels: int) -> Views:
    """Images as evaluation sees them."""
    return Views(pixels, EVALUATION, {"image": size}, channels=channels)


def own(model: Objective, images: Views) -> list[Sheet]:
    """What the objective has to show of some images, e.g. its reconstructions."""
    batch = {key: value.to(model.backbone.mean.device) for key, value in next(batches(images, SHOWN)).items()}
    with torch.no_grad():
        made = model.eval().pictures(batch)
    if not made:
        return []
    columns = {"image": batch["image"], **made}
    shown = {name: restored(model.backbone, x) for name, x in columns.items()}
    rows = [(pixels[at], name) for at in range(len(batch["image"])) for name, pixels in shown.items()]
    return [Sheet(rows, f"Held-out images: {', '.join(shown)}", len(shown) * max(1, 6 // len(shown)))]


@torch.no_grad()
def learnt(backbone: Backbone, images: Views, labelled: Labelled | None, size: int) -> tuple[list[Sheet], Map]:
    """Neighbours of the first images, where the network looks in a few, and a map of all or of the labelled ones."""
    parts, device = list(batches(images, 64)), backbone.mean.device
    with inference(device):
        z = torch.cat([backbone.eval()(part["image"].to(device)).float().cpu() for part in parts])
    pixels = restored(backbone, torch.cat([part["image"] for part in parts]))
    sheets = [_nearest(z, pixels), *_looks(backbone, parts[0]["image"][:SHOWN].to(device), pixels)]
    if labelled is None:
        points, share = flattened(z)
        return sheets, Map(points.numpy(), share)
    some = np.unique(np.linspace(0, len(labelled.table) - 1, MAPPED).round().astype(int))
    few = Labelled(labelled.table.take(some), [labelled.pixels[i] for i in some])
    points, share = flattened(few.features(backbone, size, store=False))
    return sheets, Map(points.numpy(), share, few.table.labels, few.table.classes)


def _nearest(z: Tensor, pixels: Pixels) -> Sheet:
    cosine, place = neighbours(z, min(QUERIES, len(z)), NEAREST)
    rows = []
    for at, (near, similar) in enumerate(zip(place.tolist(), cosine.tolist(), strict=True)):
        rows.append((pixels[at], "held out"))
        rows += [(pixels[i], f"{s:.2f}") for i, s in zip(near, similar, strict=True)]
    caption = f"Left: held-out images. Right: their nearest among {len(z) - 1} others, with the cosine of the features"
    return Sheet(rows, caption, 1 + cosine.shape[1])


def neighbours(z: Tensor, queries: int, k: int) -> tuple[Tensor, Tensor]:
    """Cosine and place of the k rows of z (N D) that are nearest to each of the first `queries`, itself left out."""
    unit = F.normalize(z.double(), dim=1)
    similarity = unit[:queries] @ unit.T  # Q N
    similarity[range(queries), range(queries)] = -torch.inf
    found: tuple[Tensor, Tensor] = similarity.topk(min(k, len(z) - 1), dim=1)
    return found


def flattened(z: Tensor) -> tuple[Tensor, float]:
    """N D -> N 2, the two directions in which embeddings on the sphere vary most, and their share of the variance."""
    unit = F.normalize(z.double(), dim=1)
    u, s, v = torch.linalg.svd(unit - unit.mean(0), full_matrices=False)
    sign = v[:2].gather(1, v[:2].abs().argmax(1, keepdim=True)).sign()[:, 0]  # else a matter of the processor
    return u[:, :2] * s[:2] * sign, float(s[:2].square().sum() / s.square().sum().clamp(min=1e-12))


def _looks(backbone: Backbone, images: Tensor, pixels: Pixels) -> list[Sheet]:
    heads = attention(backbone, images)
    if heads is not None:
        shown = [f"head {i + 1}" for i in range(min(HEADS, heads.shape[1]))]
        caption = f"Where the class token looks in the last block: {len(shown)} of {heads.shape[1]} heads"
        return [Sheet(heated(heads[:, : len(shown)], pixels, shown), caption, 1 + len(shown))]
    if not hasattr(backbone.net, "forward_intermediates"):  # not all of timm's models have it
        return []
    caption = "How much each place resembles the pooled feature: bright is what the embedding is about"
    return [Sheet(heated(similarity(backbone, images)[:, None], pixels, ["similarity"]), caption, 6)]
