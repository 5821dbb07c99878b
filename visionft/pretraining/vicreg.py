"""VICReg: two views agree, while every feature keeps its variance and no two say the same (arXiv:2105.04906)."""

from __future__ import annotations

from collections.abc import Mapping

from lightly.loss.vicreg_loss import covariance_loss, invariance_loss, variance_loss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import View, exactly
from visionft.parallel import gather

from .joint import JointEmbedding


class VICReg(JointEmbedding):
    """Variance, invariance and covariance instead of negatives, on any backbone.

    invariance: weight of the squared distance between two views
    variance: weight of what every feature's deviation lacks to 1
    covariance: weight of the squared covariances between features
    width: features of the projector's hidden and last layers; the paper has 8192, for ImageNet
    """

    sees = {"views": View("ssl", count=2)}
    good_for = "small batches, without negatives or a teacher; its three terms are logged apart"

    def __init__(
        self,
        backbone: Backbone,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        width: int = 512,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, VICRegProjectionHead(backbone.dim, width, width)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pull two views of every image together; spread the images of all processes over all features."""
        z = self.embed(batch["views"])  # B 2 D
        with exactly(z):
            near = invariance_loss(*z.unbind(1))
            x, y = gather(z).unbind(1)
            wide = (variance_loss(x) + variance_loss(y)) / 2
            apart = covariance_loss(x) + covariance_loss(y)
            loss = self.invariance * near + self.variance * wide + self.covariance * apart
        return {"loss": loss, "invariance": near, "variance": wide, "covariance": apart}
