"""Barlow Twins: across two views, a feature correlates with itself and with no other feature (arXiv:2103.03230)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly
from visionft.parallel import gather

from .joint import JointEmbedding


class BarlowTwins(JointEmbedding):
    """Redundancy reduction instead of negatives, on any backbone.

    redundancy: weight of the correlations between different features
    width: features of the projector's hidden and last layers; the paper has 8192, for ImageNet
    """

    sees = {"views": View("ssl", count=2)}
    good_for = "small batches, without negatives or a teacher; one weight to choose"

    def __init__(self, backbone: Backbone, *, redundancy: float = 5e-3, width: int = 512) -> None:
        super().__init__()
        self.backbone, self.redundancy = backbone, redundancy
        self.head = BarlowTwinsProjectionHead(backbone.dim, width, width)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compare the correlations of two views, over the images of all processes, with the identity."""
        z = self.embed(batch["views"])  # B 2 D
        with exactly(z):
            c = correlation(*gather(z).unbind(1))  # D D
            error = (c - torch.eye(len(c), device=c.device)).square()
            same = error.trace()
            other = error.sum() - same
        return {"loss": same + self.redundancy * other, "invariance": same, "redundancy": other}


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """B D, B D -> D D, of every feature of x with every feature of y."""
    x, y = (F.batch_norm(z, None, None, training=True) for z in (x, y))
    return x.T @ y / len(x)
