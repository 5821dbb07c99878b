"""The backbone as it began, which says of any image what it always said, and how far from that another has come."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft.errors import ConfigError
from visionft.objective import exactly
from visionft.weights import OldHead

What = Literal["auto", "answers", "features"]


def compared(backbone: Any, what: What) -> OldHead | None:
    """The classifier whose answers are compared, or None for features. Raises ConfigError if there is none to ask."""
    old: OldHead | None = backbone.loaded.head
    if what == "answers" and old is None:
        raise ConfigError("keep.what=answers needs weights that bring a classifier; take keep.what=features")
    return None if what == "features" else old


class Start(nn.Module):
    """A frozen copy of a backbone, with the classifier that came with its weights, if one did.

    `what` is compared: the classifier's answers or the pooled features; auto takes the answers where there are any.
    """

    def __init__(self, backbone: Any, what: What, temperature: float) -> None:
        super().__init__()
        self.backbone, self.temperature = copy.deepcopy(backbone).requires_grad_(False).eval(), temperature
        old = compared(backbone, what)
        self.head = None if old is None else old.layer()

    def distance(self, images: Tensor, z: Tensor) -> Tensor:
        """Mean over images (B C H W) of how far features z (B D) are from what the start says of them; 0 at the start.

        Of answers, the divergence of softened probabilities times temperature^2 (arXiv:1503.02531), in nats. Of
        features, |z - z0|^2 / |z0|^2: image by image, so that parts of a batch add up to the batch.
        """
        with torch.no_grad():
            before = self.backbone(images).float()  # B D
        with exactly(z):
            if self.head is None:
                far: Tensor = ((z.float() - before).square().sum(1) / before.square().sum(1)).mean()
                return far
            now, then = ((self.head(x.float()) / self.temperature).log_softmax(1) for x in (z, before))
            return self.temperature**2 * F.kl_div(now, then, log_target=True, reduction="batchmean")
