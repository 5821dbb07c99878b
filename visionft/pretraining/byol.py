"""BYOL: a network predicts of one view what its own slow average sees in the other; no negatives (arXiv:2006.07733)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.objective import View, exactly

from .joint import Taught, of_views
from .teacher import Teacher


class BYOL(Taught):
    """Prediction of a slow average's projections on any backbone; batches may be small.

    horizon: share of the run that the teacher averages over
    width: hidden features of the projection and prediction heads
    out: features that are predicted
    """

    sees = {"views": View("dino", count=2)}
    good_for = "images that are much alike, and small batches: nothing pushes images apart"

    def __init__(self, backbone: Backbone, *, horizon: float = 0.1, width: int = 512, out: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        # the paper's projection, standardised: without this, short runs of small ViTs fall to a line (measured)
        self.head = nn.Sequential(BYOLProjectionHead(backbone.dim, width, out), nn.BatchNorm1d(out, affine=False))
        self.predictor = BYOLPredictionHead(out, width, out)
        self.teacher = Teacher(horizon, backbone=self.backbone, head=self.head)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared distance on the sphere between each view's prediction and the other view's target, both ways."""
        views = batch["views"]  # B 2 C H W
        guess = of_views(self.predictor, self.embed(views))  # B 2 D
        target = self.taught(views)  # B 2 D
        with exactly(guess):
            distance = 2 - 2 * F.cosine_similarity(guess, target.flip(1), dim=-1)  # B 2
            return {"loss": distance.sum(1).mean()}
