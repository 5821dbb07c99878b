"""DINO: a student that sees small crops predicts what its own slow average sees in large ones (arXiv:2104.14294)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightly.loss import DINOLoss
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import Objective, View, exactly

from .prototypes import Prototypes, sized_to
from .teacher import Teacher


class DINO(Objective):
    """Self-distillation with multi-crop on any backbone; every schedule is a share of the run.

    prototypes: outputs the two networks agree on; null sizes them to the data (half the images)
    horizon: share of the run that the teacher averages over
    student_temp: temperature of the student's prediction
    teacher_temp: temperature of the teacher's target, once warm
    warmup: share of the run in which teacher_temp rises from 0.04
    center: momentum of the centre that keeps one prototype from winning
    width: hidden features of the head
    images: size of the data set; the runner fills it in
    """

    sees = {
        "views": View("dino", count=2, scale=(0.4, 1.0)),
        "crops": View("dino", count=6, share=0.45, scale=(0.08, 0.4)),
    }
    good_for = "features to use as they are, for kNN and search; eight looks at an image make its steps slow"

    def __init__(
        self,
        backbone: Backbone,
        *,
        prototypes: int | None = None,
        horizon: float = 0.3,
        student_temp: float = 0.1,
        teacher_temp: float = 0.04,
        warmup: float = 0.1,
        center: float = 0.9,
        width: int = 512,
        images: int = 8192,
    ) -> None:
        super().__init__()
        prototypes = prototypes or sized_to(images)
        self.backbone, self.head = backbone, Prototypes(backbone.dim, prototypes, width)
        self.teacher = Teacher(horizon, backbone=self.backbone, head=self.head)
        self.criterion = DINOLoss(prototypes, student_temp=student_temp, center_momentum=center)
        self.teacher_temp, self.warmup = teacher_temp, warmup

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match every view of the student with the teacher's two large ones, never a view with itself."""
        views, crops = batch["views"], batch.get("crops")  # B 2 C H W, B L C h w
        self.teacher.train(self.training)  # its batch norms see the batch, too: frozen statistics let it fall behind
        with torch.no_grad():
            taught = self._project(self.teacher, views)  # 2 of B K
        student = [z for v in (views, crops) if v is not None for z in self._project(self, v)]
        with exactly(views):
            loss = self.criterion(taught, student, teacher_temp=self._temperature())
            target = ((torch.stack(taught) - self.criterion.center) / self.teacher_temp).softmax(-1)
        return {"loss": loss, "teacher_entropy": torch.special.entr(target).sum(-1).mean()}

    def _project(self, network: Any, views: Tensor) -> list[Tensor]:
        z: Tensor = network.head(network.backbone(views.flatten(0, 1))).float()  # B*V K
        return list(z.unflatten(0, views.shape[:2]).unbind(1))

    def _temperature(self) -> float:
        warm = min(1.0, float(self.teacher.done) / self.warmup) if self.warmup else 1.0
        return 0.04 + (self.teacher_temp - 0.04) * warm

    def project(self, features: Tensor) -> Tensor:
        """B D -> B 128, before the prototypes."""
        return self.head.mlp(features)  # type: ignore[no-any-return]

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        self.teacher.follow(self, progress)
