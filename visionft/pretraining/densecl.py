"""DenseCL: not only images but their places find each other again in another view (arXiv:2011.09157)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import DenseCLProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly
from visionft.parallel import gather, rank

from .joint import Taught
from .teacher import Teacher


class DenseCL(Taught):
    """Contrast of images, and of places in their feature maps, on any backbone.

    The paper's queue of 65,536 past images is for ImageNet: on a small data set it would hold every image several
    times, the query's own among them, seen by older teachers. Negatives are the batch of all processes instead.

    dense: weight of the contrast of places; the rest is that of images
    temperature: how sharply hard negatives are weighted
    horizon: share of the run that the teacher averages over
    width: hidden features of the projection heads
    out: features that are compared
    """

    sees = {"views": View("ssl", count=2)}
    good_for = "detection, segmentation, small defects: every place of the feature map is trained"

    def __init__(
        self,
        backbone: Backbone,
        *,
        dense: float = 0.5,
        temperature: float = 0.2,
        horizon: float = 0.1,
        width: int = 512,
        out: int = 128,
    ) -> None:
        super().__init__()
        last = backbone.net.feature_info[-1]
        self.backbone, self.head = backbone, DenseCLProjectionHead(backbone.dim, width, out)
        self.places = DenseCLProjectionHead(last["num_chs"], width, out)
        self.teacher = Teacher(horizon, backbone=self.backbone, head=self.head, places=self.places)
        self.dense, self.temperature = dense, temperature
        if backbone.size and (side := round(backbone.size / last["reduction"])) < 3:
            places = f"a map of {side}x{side} places at {backbone.size} pixels"
            self.note = f"densecl: {backbone.name} has {places}; size={4 * last['reduction']} gives 4x4 to tell apart"

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Find each image, and each place of it, among what the teacher sees in the other view of all images."""
        z, places, grid = look(self, batch["views"])  # B 2 D, B 2 S D, B 2 S C
        with torch.no_grad():
            taught = look(self.teacher.like(self), batch["views"])
            keys, candidates, other = (x.flip(1) for x in taught)  # of the other view
        with exactly(z):
            partners = candidates.gather(2, nearest(grid, other)[..., None].expand_as(candidates))
            whole = contrast(z[:, :, None], keys[:, :, None], keys, self.temperature)
            parts = contrast(places, partners, candidates.mean(2), self.temperature)
            loss = (1 - self.dense) * whole + self.dense * parts
        return {"loss": loss, "global": whole, "dense": parts}


def look(network: Any, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """B V C H W -> the projection of each image B V D and of its S places B V S D, and their features B V S C.

    One pass gives what `backbone(images)` and `backbone.maps(images)` would give in two.
    """
    net, images = network.backbone.net, network.backbone.normalise(views.flatten(0, 1))
    last, maps = net.forward_intermediates(images, indices=1, output_fmt="NCHW")
    grid = maps[0].flatten(2).mT  # B*V S C
    z, places = network.head(net.forward_head(last)), network.places(grid)
    return tuple(x.float().unflatten(0, views.shape[:2]) for x in (z, places, grid))


@torch.no_grad()
def nearest(grid: Tensor, other: Tensor) -> Tensor:
    """... S C, ... T C -> ... S: where in the other map the features are most like those of each place."""
    return (F.normalize(grid, dim=-1) @ F.normalize(other, dim=-1).mT).argmax(-1)


def contrast(queries: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Cross entropy of telling each query's positive (B V S D) from the negatives (B V D) of all other images."""
    queries, positives, negatives = (F.normalize(x, dim=-1) for x in (queries, positives, negatives))
    own = (rank() * len(queries) + torch.arange(len(queries), device=queries.device)).view(-1, 1, 1, 1)
    logits = torch.einsum("bvsd,nvd->bvsn", queries, gather(negatives))
    positive = (queries * positives).sum(-1, keepdim=True)
    own = own.expand_as(positive)
    logits = logits.scatter(-1, own, positive)
    return F.cross_entropy(logits.flatten(0, 2) / temperature, own.flatten())
