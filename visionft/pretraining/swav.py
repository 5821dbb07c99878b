"""SwAV: every crop predicts to which prototypes the other crops of its image were dealt (arXiv:2006.09882)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import exactly
from visionft.parallel import gather, rank, world

from .joint import MULTICROP, JointEmbedding
from .prototypes import Prototypes, agreement, entropy, sinkhorn, sized_to


class SwAV(JointEmbedding):
    """Online clustering with multi-crop on any backbone; every schedule is a share of the run.

    prototypes: clusters among which each batch is dealt evenly; null sizes them to the data (an eighth of the images)
    temperature: temperature of the prediction
    epsilon: how soft the dealing is; a loss that stays at the logarithm of `prototypes` needs less (the paper has 0.05)
    iterations: of Sinkhorn's algorithm, which deals
    frozen: share of the run in which the prototypes stand still
    queue: past embeddings that are dealt along with the batch; the paper has 3840 for small ones, here 32 needed none
    wait: share of the run before the queue is used
    width: hidden features of the head
    out: features that are compared
    images: size of the data set; the runner fills it in
    """

    sees = MULTICROP
    good_for = "images that fall into groups; eight looks at an image make its steps slow"
    done: Tensor
    queue: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        prototypes: int | None = None,
        temperature: float = 0.1,
        epsilon: float = 0.02,
        iterations: int = 3,
        frozen: float = 0.02,
        queue: int = 0,
        wait: float = 0.1,
        width: int = 512,
        out: int = 128,
        images: int = 8192,
    ) -> None:
        super().__init__()
        prototypes = prototypes or sized_to(images / 8, 64, 4096)
        self.backbone, self.head = backbone, Prototypes(backbone.dim, prototypes, width, out)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.frozen, self.wait = frozen, wait
        self.register_buffer("done", torch.zeros(()))  # share of the run, so that resuming knows it
        self.register_buffer("queue", torch.zeros(queue, 2, out))  # newest first

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict the codes of the two large views from every other view."""
        views = [batch[key] for key in ("views", "crops") if key in batch]  # B 2 C H W, B L C h w
        z = F.normalize(self.embed(*views), dim=-1)  # B V D
        with exactly(z):
            prototypes = self._directions()
            codes = self._codes(z[:, : views[0].shape[1]], prototypes)  # B 2 K
            log_p = (z @ prototypes.T / self.temperature).log_softmax(-1)  # B V K
            entropies = {"code_entropy": entropy(codes), "student_entropy": entropy(log_p.detach().exp())}
            return {"loss": agreement(log_p, codes), **entropies}

    def _directions(self) -> Tensor:
        moving = F.normalize(self.head.directions, dim=-1)  # K D
        share = float(self.done >= self.frozen)
        return moving.detach() + share * (moving - moving.detach())  # a gradient of zero, for DDP expects one

    @torch.no_grad()
    def _codes(self, z: Tensor, prototypes: Tensor) -> Tensor:
        """B 2 D -> B 2 K: the images of all processes, and the queue, dealt evenly to the prototypes, view by view."""
        full = len(self.queue) > 0 and bool(self.queue[-1].any())
        past = self.queue[rank() :: world()] if full and self.done >= self.wait else self.queue[:0]  # each has a part
        scores = (torch.cat([z, past]) @ prototypes.T).double()  # exp(1 / epsilon) overflows in float32 from 0.011 down
        codes = [sinkhorn(x, self.epsilon, self.iterations).float() for x in scores.unbind(1)]
        if self.training and len(self.queue):
            self.queue.copy_(torch.cat([gather(z), self.queue])[: len(self.queue)])
        return torch.stack(codes, 1)[: len(z)]

    def project(self, features: Tensor) -> Tensor:
        """B D -> B out, before the sphere."""
        return self.head.mlp(features)  # type: ignore[no-any-return]

    def after_step(self, progress: float) -> None:
        """Hear when to let the prototypes move and to use the queue."""
        self.done.fill_(progress)
