"""Supervised classification: the fine-tuning objective that needs no introduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from visionft.backbone import Backbone
from visionft.droppath import drop_paths
from visionft.errors import ConfigError
from visionft.objective import Objective, View


class Classify(Objective):
    """One linear layer on pooled features, cross-entropy.

    classes: how many there are; the runner fills it in
    counts: training images of each class; the runner fills it in
    smoothing: label smoothing
    dropout: on the features, while training
    drop_path: share of images that skip the last block, while training; it rises to that with depth (stochastic depth)
    balance: for rare classes: weights (each class counts alike), logit (adjusted by the log prior), or none
    focal: exponent by which what is easy counts less; 2 is usual, 0 is off
    mixup: images are blended in pairs, with a share from Beta(mixup, mixup); 0.2 is usual, 0 is off
    cutmix: images take a rectangle from another, with an area from Beta(cutmix, cutmix); 1 is usual, 0 is off
    """

    sees = {"image": View("light")}
    divides = True
    gentle = 1e-4
    good_for = "labelled images: visionft finetune"

    def __init__(
        self,
        backbone: Backbone,
        *,
        classes: int,
        counts: Sequence[int] | None = None,
        smoothing: float = 0.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        balance: Literal["none", "weights", "logit"] = "none",
        focal: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("smoothing", smoothing), ("dropout", dropout)):
            if not 0 <= value < 1:
                raise ConfigError(f"task.{name}={value} makes no sense: it must be at least 0 and below 1")
        if focal < 0:
            raise ConfigError(f"task.focal={focal} makes no sense: it must be at least 0; 0 is off")
        self.backbone, self.smoothing, self.focal = backbone, smoothing, focal
        drop_paths(backbone, drop_path)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)  # near the prior: early steps must not wreck the backbone
        nn.init.zeros_(self.head.bias)
        share = _share(counts, classes) if balance != "none" else torch.full((classes,), 1 / classes)
        self.weight = nn.Buffer(
            1 / (classes * share) if balance == "weights" else torch.ones(classes), persistent=False
        )
        self.prior = nn.Buffer(share.log() if balance == "logit" else torch.zeros(classes), persistent=False)
        self.mixes = _mixes(classes, mixup, cutmix)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of `label` (B, int64) given `image` (B C H W)."""
        images, labels = batch["image"], batch["label"]
        target = F.one_hot(labels, len(self.weight)).float()
        if self.training and self.mixes is not None:
            images, target = self.mixes(self.backbone.normalise(images), labels)
        logits = self.head(self.dropout(self.backbone(images))).float()
        loss = self.cost(logits, target)
        return {"loss": loss, "train_accuracy": (logits.argmax(1) == labels).float().mean()}

    def cost(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over images of what these B K logits cost against B K shares of classes, with balance and focus.

        Logits are raised by the log prior while training, so that they themselves are those of balanced classes
        (arXiv:2007.07314). Focal loss: each class's term times (1 - p) ** focal (arXiv:1708.02002).
        """
        log_p = (logits + self.prior).log_softmax(1)
        target = target * (1 - self.smoothing) + self.smoothing / target.shape[1]
        terms = self.weight * target * -log_p
        if self.focal:
            terms = terms * (1 - log_p.exp()) ** self.focal
        return terms.sum(1).mean()

    def predict(self, images: Tensor) -> Tensor:
        """B C H W -> B K probabilities."""
        return self.head(self.backbone(images)).float().softmax(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with a probe's answer (K D and K) instead of the prior: LP-FT, arXiv:2202.10054."""
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias - self.prior)

    def answered(self, p: Tensor) -> Tensor:
        """What the head that `start_from` makes of a probe answers where the probe has said p, N K probabilities."""
        return (p.log() - self.prior.to(p)).softmax(1)


def _share(counts: Sequence[int] | None, classes: int) -> Tensor:
    if counts is None or len(counts) != classes:
        raise ConfigError(f"balance needs counts, the training images of each of the {classes} classes, not {counts}")
    return torch.tensor(counts, dtype=torch.float32).clamp_min(0.5) / sum(counts)  # an absent class: half an image


def _mixes(classes: int, mixup: float, cutmix: float) -> Any:
    """torchvision's own: one share a batch, each image with its neighbour; now this, now that if both are asked for."""
    if min(mixup, cutmix) < 0:
        raise ConfigError(f"mixup={mixup}, cutmix={cutmix}: parameters of a beta distribution lie above 0; 0 is off")
    made = [v2.MixUp(alpha=mixup, num_classes=classes)] if mixup else []
    made += [v2.CutMix(alpha=cutmix, num_classes=classes)] if cutmix else []
    return v2.RandomChoice(made) if made else None
