"""SimCLR: two crops of one image should agree, crops of different images should not (arXiv:2002.05709)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lightly.loss import DCLLoss, NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly

from .joint import JointEmbedding


class SimCLR(JointEmbedding):
    """Contrastive learning on any backbone.

    temperature: how sharply hard negatives are weighted
    loss: nt_xent, or dcl, which is better with small batches (arXiv:2110.06848)
    width: hidden features of the projection head
    out: features that are compared
    """

    remedy = "objective.loss=dcl"
    sees = {"views": View("ssl", count=2)}
    good_for = "a first try with convolutions and batches from 64 on; with loss=dcl, smaller ones"

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.1,
        loss: Literal["nt_xent", "dcl"] = "nt_xent",
        width: int = 512,
        out: int = 128,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = SimCLRProjectionHead(backbone.dim, width, out)
        kind = NTXentLoss if loss == "nt_xent" else DCLLoss
        self.criterion = kind(temperature=temperature, gather_distributed=True)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Contrast the two views of every image with all other images of all processes."""
        z = self.embed(batch["views"])  # B 2 D
        with exactly(z):
            return {"loss": self.criterion(*z.unbind(1))}
