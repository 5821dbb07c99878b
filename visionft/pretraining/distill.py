"""Distillation: a small student learns what any teacher says of your images (arXiv:1412.6550, arXiv:2101.04731)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft import backbones, parallel
from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.errors import WeightsError
from visionft.features import features
from visionft.objective import Objective, View, exactly

QUEUE = 4096


class Distill(Objective):
    """Any student, and any teacher that timm can build: it looks at each image once, before training, and is let go.

    teacher: a timm model (CLIP's image towers, too) or a run folder
    weights: of the teacher: a file, a run folder, package:NAME, timm (fetches them); auto takes what is on this machine
    side: of the square that the teacher sees, pixels; null takes what its weights were trained on
    loss: feature, squared error of standardised features, or queue, cross-entropy of similarities to other images
    temperature: of those similarities
    queue: images that they are measured to; null takes half the data, at most 4096
    images: size of the data set; the runner fills it in
    """

    sees = {"image": View("light")}
    divides = True
    collapses = False  # the teacher's features are standardised: one answer for all images explains none of them
    good_for = "small and fast networks that should know what a large one knows; short runs, small batches"
    queue: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        teacher: str = "tf_efficientnet_lite0",
        weights: str = "auto",
        side: int | None = None,
        loss: Literal["feature", "queue"] = "feature",
        temperature: float = 0.07,
        queue: int | None = None,
        images: int = 8192,
    ) -> None:
        super().__init__()
        self.backbone, self.loss, self.temperature = backbone, loss, temperature
        self.load = partial(_load, teacher, weights, channels=backbone.channels, size=side)
        model = self.load()
        self.note = (
            f"teacher: {model.name}, {model.loaded}. It looks at every image once, at {_side(model)} pixels, and its "
            "answers are kept in the cache. Whether its licence lets you train another network is for you to check."
        )
        self.head = nn.Linear(backbone.dim, model.dim)
        most = max(2, images // 2)  # of which there are at least as many in training
        self.register_buffer("queue", torch.zeros(min(queue or QUEUE, most) if loss == "queue" else 0, model.dim))

    def columns(self, pixels: Sequence[np.ndarray], table: Table, size: int, **how: Any) -> dict[str, Tensor]:
        """The teacher's features of the whole images, each of mean 0 and variance 1 over them."""
        teacher = self.load().to(parallel.start())
        z = features(teacher, pixels, [r.digest for r in table], size=_side(teacher), **how)
        z = (z - z.mean(0)) / (z.std(0, correction=0) + 1e-6)  # N T
        self.queue.copy_(z[torch.linspace(0, len(z) - 1, len(self.queue)).round().long()])
        return {"teacher": z}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Say of the changed image what the teacher says of the whole one."""
        z = self.project(self.backbone(batch["image"])).float()  # B T
        taught = batch["teacher"]  # B T
        with exactly(z):
            if self.loss == "feature":
                return {"loss": F.mse_loss(z, taught)}
            log_p, target = (self._similarities(x).log_softmax(1) for x in (z, taught))  # B Q
            entropy = torch.special.entr(target.exp()).sum(1).mean()
            return {"loss": -(target.exp() * log_p).sum(1).mean(), "teacher_entropy": entropy}

    def _similarities(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=1) @ F.normalize(self.queue, dim=1).T / self.temperature

    def project(self, features: Tensor) -> Tensor:
        """B D -> B T."""
        return self.head(features)  # type: ignore[no-any-return]


def _side(teacher: Backbone) -> int:
    """The size its weights know: of 32 pixels, most features of tf_efficientnet_lite0 say nothing (measured)."""
    return teacher.side(teacher.size or teacher.net.pretrained_cfg["input_size"][-1])


def _load(name: str, weights: str, *, channels: int, size: int | None) -> Backbone:
    try:
        return backbones.load(name, weights, channels=channels, size=size, local=True)
    except WeightsError as error:
        words = str(error).replace("backbone=", "objective.teacher=").replace("weights=", "objective.weights=")
        raise WeightsError(f"the teacher of objective distill: {words}") from error
