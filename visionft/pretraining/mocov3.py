"""MoCo v3: find one's other view among the batch, as one's own slow average sees it (arXiv:2104.02057)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly
from visionft.parallel import gather, rank

from .joint import Taught, of_views
from .teacher import Teacher


class MoCoV3(Taught):
    """Contrast with a slow average on any backbone; negatives are the batch of all processes, there is no queue.

    temperature: how sharply hard negatives are weighted; the paper has 0.2 for ViTs, 1 for ResNets
    horizon: share of the run that the teacher averages over
    width: hidden features of the projection and prediction heads
    out: features that are compared
    """

    sees = {"views": View("dino", count=2)}
    good_for = "transformers and convolutions; the larger the batch, the better"

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: float = 0.2,
        horizon: float = 0.1,
        width: int = 512,
        out: int = 128,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = MoCoProjectionHead(backbone.dim, width, out, num_layers=3, batch_norm=True)
        self.predictor = MoCoProjectionHead(out, width, out, num_layers=2, batch_norm=True)
        self.teacher = Teacher(horizon, backbone=self.backbone, head=self.head)
        self.temperature = temperature

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tell each image's key in the other view from the keys of all images of all processes, both ways."""
        views = batch["views"]  # B 2 C H W
        queries = of_views(self.predictor, self.embed(views))  # B 2 D
        keys = gather(F.normalize(self.taught(views).flip(1), dim=-1))  # N 2 D
        with exactly(queries):
            logits = torch.einsum("bvd,nvd->bnv", F.normalize(queries, dim=-1), keys) / self.temperature
            own = rank() * len(views) + torch.arange(len(views), device=views.device)
            cost = F.cross_entropy(logits, own[:, None].expand(-1, 2))  # mean over both ways
            return {"loss": 2 * self.temperature * 2 * cost}  # the paper's scale: gradients hardly depend on it
