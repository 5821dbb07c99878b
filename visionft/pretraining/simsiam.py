"""SimSiam: each view predicts the other, through which no gradient flows; nothing else is needed (arXiv:2011.10566)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly

from .joint import JointEmbedding, of_views


class SimSiam(JointEmbedding):
    """Prediction without negatives, teacher or queue on any backbone; batches may be small.

    width: features of the projection head, hidden and last
    bottleneck: hidden features of the prediction head; the paper has a quarter of width
    """

    sees = {"views": View("ssl", count=2)}
    good_for = "what byol is good for, without its second network"

    def __init__(self, backbone: Backbone, *, width: int = 512, bottleneck: int = 128) -> None:
        super().__init__()
        self.backbone, self.head = backbone, SimSiamProjectionHead(backbone.dim, width, width)
        self.predictor = SimSiamPredictionHead(width, bottleneck, width)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Negative cosine between each view's prediction and the other view's projection, taken as given."""
        z = self.embed(batch["views"])  # B 2 D
        guess = of_views(self.predictor, z)
        with exactly(z):
            return {"loss": -F.cosine_similarity(guess, z.detach().flip(1), dim=-1).mean()}
