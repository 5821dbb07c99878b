"""LeJEPA: all views predict the centre of the large ones, and embeddings are kept Gaussian (arXiv:2511.08544)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import LeJEPAProjectionHead
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import exactly
from visionft.parallel import total, world

from .joint import MULTICROP, JointEmbedding

# The statistic grows with the batch, so its pull fades in small ones: with 16 images projections fell to a line, at the
# strength of the paper's smallest batch they do not (measured).
SMALLEST = 128


class LeJEPA(JointEmbedding):
    """Multi-crop without teacher, prototypes or schedules, on any backbone.

    weight: share of the Gaussian regulariser in the loss, for batches of any size; the rest pulls views together
    slices: random directions along which embeddings are compared with a Gaussian; the paper has up to 1024
    width: hidden features of the projector; the paper has 2048
    out: features that are compared
    """

    sees = MULTICROP
    good_for = "one weight to choose, no teacher and no schedules; eight looks at an image make its steps slow"
    step: Tensor

    def __init__(
        self, backbone: Backbone, *, weight: float = 0.05, slices: int = 256, width: int = 512, out: int = 64
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, LeJEPAProjectionHead(backbone.dim, width, out)
        self.weight, self.slices, self.out = weight, slices, out
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))  # draws the directions, also after resuming

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict from every view, and compare the embeddings of all processes with a Gaussian, view by view."""
        views = [batch[key] for key in ("views", "crops") if key in batch]  # B 2 C H W, B L C h w
        z = self.embed(*views)  # B V D
        with exactly(z):
            centre = z[:, : views[0].shape[1]].mean(1, keepdim=True)
            near = (z - centre).square().mean()
            gaussian = sigreg(z, self.directions())
            small = max(1.0, SMALLEST / (len(z) * world()))
            loss = (1 - self.weight) * near + self.weight * small * gaussian
        return {"loss": loss, "invariance": near, "sigreg": gaussian}

    def directions(self) -> Tensor:
        """D S unit vectors, fresh in every step and the same in every process."""
        fixed = torch.Generator().manual_seed(int(self.step))
        return F.normalize(torch.randn(self.out, self.slices, generator=fixed), dim=0).to(self.step.device)

    def after_step(self, progress: float) -> None:
        """Turn to other directions."""
        self.step += 1


def sigreg(z: Tensor, directions: Tensor, *, reach: float = 5.0, knots: int = 17) -> Tensor:
    """Mean Epps-Pulley statistic of B V D along D S directions: 0 for a Gaussian, of order B for a single point.

    N ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt over [-reach, reach], φ the characteristic function of the N samples of all
    processes. Both halves of the integral are equal, so that all knots can lie in one.
    """
    t = torch.linspace(0, reach, knots, device=z.device)
    gauss = (-t.square() / 2).exp()
    x = (z @ directions)[..., None] * t  # B V S T
    n = len(z) * world()
    real, imaginary = total(x.cos().sum(0)) / n, total(x.sin().sum(0)) / n  # V S T
    error = (real - gauss).square() + imaginary.square()
    return n * 2 * torch.trapezoid(error * gauss, t).mean()
