"""DINO: a student that sees small crops predicts what its own slow average sees in large ones (arXiv:2104.14294)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.objective import exactly

from .joint import MULTICROP, Taught, through
from .prototypes import Prototypes, Settled, agreement, entropy, sized_to
from .teacher import Teacher


class DINO(Taught):
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

    sees = MULTICROP
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
        prototypes = prototypes or sized_to(images / 2)
        self.backbone, self.head = backbone, Prototypes(backbone.dim, prototypes, width)
        self.teacher = Teacher(horizon, backbone=self.backbone, head=self.head)
        self.settle = Settled("centre", prototypes, center)
        self.student_temp, self.teacher_temp, self.warmup = student_temp, teacher_temp, warmup

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match every view of the student with the teacher's two large ones, never a view with itself."""
        views = [batch[key] for key in ("views", "crops") if key in batch]  # B 2 C H W, B L C h w
        target = self.settle(self.taught(views[0]), self.teacher.rising(0.04, self.teacher_temp, self.warmup))  # B 2 K
        student = torch.cat([through(self.backbone, self.head, v) for v in views], 1)  # B V K; a norm for each size
        with exactly(student):
            said = (student / self.student_temp).log_softmax(-1)
            loss = agreement(said, target)
        return {"loss": loss, "teacher_entropy": entropy(target), "student_entropy": entropy(said.detach().exp())}

    def project(self, features: Tensor) -> Tensor:
        """B D -> B 128, before the prototypes."""
        return self.head.mlp(features)  # type: ignore[no-any-return]

    def after_step(self, progress: float) -> None:
        """Move the teacher and the centre."""
        super().after_step(progress)
        self.settle.move()
