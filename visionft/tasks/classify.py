"""Supervised classification: the fine-tuning objective that needs no introduction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.objective import Objective, View


class Classify(Objective):
    """One linear layer on pooled features, cross-entropy.

    classes: how many there are; the runner fills it in
    smoothing: label smoothing
    dropout: on the features, while training
    """

    sees = {"image": View("light")}
    good_for = "labelled images: visionft finetune"

    def __init__(self, backbone: Backbone, *, classes: int, smoothing: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone, self.smoothing = backbone, smoothing
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)  # near the prior: early steps must not wreck the backbone
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of `label` (B, int64) given `image` (B C H W)."""
        logits = self.head(self.dropout(self.backbone(batch["image"]))).float()
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=self.smoothing)
        return {"loss": loss, "train_accuracy": (logits.argmax(1) == batch["label"]).float().mean()}

    def predict(self, images: Tensor) -> Tensor:
        """B C H W -> B K probabilities."""
        return self.head(self.backbone(images)).float().softmax(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with a probe's answer (K D and K) instead of the prior: LP-FT, arXiv:2202.10054."""
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)
