"""DINOv2: DINO for whole images and iBOT for hidden patches (arXiv:2111.07832), KoLeo to spread (arXiv:2304.07193)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightly.loss import KoLeoLoss, PatchKernelAlignmentLoss
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.objective import exactly
from visionft.parallel import gather

from .joint import MULTICROP, Taught
from .prototypes import Prototypes, Settled, agreement, entropy, sized_to
from .teacher import Teacher
from .tokens import encode_hidden, hide


class DINOv2(Taught):
    """Self-distillation of images and patches on plain timm ViTs, of images alone (pooled features) on any other model.

    prototypes: outputs that student and teacher agree on; null sizes them to the data (half the images)
    horizon: share of the run that the teacher averages over
    targets: what keeps one prototype from winning; sinkhorn deals the batch evenly, centre subtracts a running mean
    student_temp: temperature of the student's prediction
    teacher_temp: temperature of the teacher's target, once warm
    warmup: share of the run in which teacher_temp rises from 0.04
    centre: momentum of the running mean
    ibot: weight of the loss of hidden patches
    kernel: weight of keeping the teacher's similarities between the patches of an image (arXiv:2509.05606)
    koleo: weight of the push away from the nearest other image
    width: hidden features of the heads
    images: size of the data set; the runner fills it in
    """

    sees = MULTICROP
    good_for = "features to use as they are: of images and, from plain ViTs, of patches"

    def __init__(
        self,
        backbone: Backbone,
        *,
        prototypes: int | None = None,
        horizon: float = 0.3,
        targets: Literal["sinkhorn", "centre"] = "sinkhorn",
        student_temp: float = 0.1,
        teacher_temp: float = 0.07,
        warmup: float = 0.3,
        centre: float = 0.9,
        ibot: float = 1.0,
        kernel: float = 0.0,
        koleo: float = 0.1,
        width: int = 512,
        images: int = 8192,
    ) -> None:
        super().__init__()
        k, dim = prototypes or sized_to(images / 2), backbone.net.num_features
        self.plain = isinstance(backbone.net, VisionTransformer)
        self.backbone, self.head = backbone, Prototypes(backbone.dim, k, width)
        self.patch_head = Prototypes(dim, k, width) if self.plain else nn.Identity()
        self.mask_token = nn.Parameter(torch.zeros(dim)) if self.plain else None
        heads = {"head": self.head, "patch_head": self.patch_head} if self.plain else {"head": self.head}
        self.teacher: Any = Teacher(horizon, backbone=backbone, **heads)
        self.settle, self.settle_patches = Settled(targets, k, centre), Settled(targets, k, centre)
        self.student_temp, self.teacher_temp, self.warmup = student_temp, teacher_temp, warmup
        self.ibot, self.kernel, self.koleo = ibot, kernel, koleo

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict what the teacher says of an image from every other view, and of patches from what is around them."""
        views, crops = batch["views"], batch.get("crops")  # B 2 C H W, B L C h w
        self.teacher.like(self)
        with torch.no_grad():
            known, places = look(self.teacher, views)  # B 2 D, B 2 N D
        hidden = hide(batch["draw"], places.shape[2]) if self.plain else None  # B 2 N
        whole, guesses = look(self, views, hidden)
        features = whole if crops is None else torch.cat([whole, look(self, crops)[0]], 1)  # B V D

        losses = self._images(features, known)
        with exactly(whole):
            losses["koleo"] = torch.stack([KoLeoLoss()(gather(z)) for z in whole.float().unbind(1)]).mean()
            loss = losses["dino"] + self.koleo * losses["koleo"]
        if hidden is not None:
            losses["ibot"] = self._patches(guesses, places, hidden)
            loss = loss + self.ibot * losses["ibot"]
        if hidden is not None and self.kernel:
            with exactly(guesses):
                pairs = (x.flatten(0, 1).float() for x in (guesses, places))
                losses["kernel"] = PatchKernelAlignmentLoss()(*pairs)
            loss = loss + self.kernel * losses["kernel"]
        return {"loss": loss, **losses}

    def _images(self, features: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Cross entropy of every view (B V D) to the teacher's two large ones (B 2 D), never of a view to itself."""
        said = self._said(self.head, features.flatten(0, 1)).unflatten(0, features.shape[:2])  # B V K
        target = self._target(self.teacher.head, self.settle, known.flatten(0, 1)).unflatten(0, known.shape[:2])
        with exactly(said):
            told = {"teacher_entropy": entropy(target), "student_entropy": entropy(said.detach().exp())}
            return {"dino": agreement(said, target), **told}

    def _patches(self, guesses: Tensor, places: Tensor, hidden: Tensor) -> Tensor:
        """Cross entropy of hidden patches to what the teacher sees there; every image counts alike."""
        said = self._said(self.patch_head, guesses[hidden])  # R K
        target = self._target(self.teacher.patch_head, self.settle_patches, places[hidden])
        share = hidden / hidden.sum((1, 2), keepdim=True) / len(hidden)
        with exactly(said):
            return -(share[hidden] * (target * said).sum(-1)).sum()

    def _said(self, head: nn.Module, features: Tensor) -> Tensor:
        """R D -> R K, the student's logarithms of probabilities."""
        return (head(features).float() / self.student_temp).log_softmax(-1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _target(self, head: nn.Module, settle: nn.Module, features: Tensor) -> Tensor:
        """R D -> R K, the teacher's probabilities."""
        temperature = self.teacher.rising(0.04, self.teacher_temp, self.warmup)
        return settle(head(features).float(), temperature)  # type: ignore[no-any-return]

    def project(self, features: Tensor) -> Tensor:
        """B D -> B 128, before the prototypes."""
        return self.head.mlp(features)  # type: ignore[no-any-return]

    def after_step(self, progress: float) -> None:
        """Move the teacher and the centres."""
        super().after_step(progress)
        self.settle.move()
        self.settle_patches.move()


def look(network: Any, views: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """B V C H W -> B V D, the pooled features, and from a ViT B V N D, its patches, as far as they are not hidden."""
    net, images = network.backbone.net, network.backbone.normalise(views.flatten(0, 1))
    if hidden is None:
        last = net.forward_features(images)
    else:
        last = encode_hidden(net, images, hidden.flatten(0, 1), network.mask_token)
    pooled, patches = net.forward_head(last), last[:, getattr(net, "num_prefix_tokens", 0) :]
    return pooled.unflatten(0, views.shape[:2]), patches.unflatten(0, views.shape[:2])
