"""Joint embedding: what all methods have in common that compare views of an image instead of rebuilding it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from visionft.objective import Objective, View

MULTICROP = {  # two large views of every image and six small ones, which cost a fifth each
    "views": View("dino", count=2, scale=(0.4, 1.0)),
    "crops": View("dino", count=6, share=0.45, scale=(0.08, 0.4)),
}


class JointEmbedding(Objective):
    """A backbone and, as `head`, a projection of its features in which views of one image are to agree."""

    head: Any
    remedy = "objective=simclr with objective.loss=dcl"

    def project(self, features: Tensor) -> Tensor:
        """B D -> B P."""
        return self.head(features)  # type: ignore[no-any-return]

    def embed(self, *views: Tensor) -> Tensor:
        """B V C H W each -> B V P: one pass through the backbone per size, one through the head for all."""
        return through(self.backbone, self.project, *views)


class Taught(JointEmbedding):
    """A joint embedding that learns from its own slow average, `teacher`, which has a backbone and a head as well."""

    teacher: Any

    @torch.no_grad()
    def taught(self, views: Tensor) -> Tensor:
        """B V C H W -> B V P: what the teacher says."""
        teacher = self.teacher.like(self)
        return through(teacher.backbone, teacher.head, views)

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        self.teacher.follow(self, progress)


def through(backbone: Any, head: Callable[[Tensor], Tensor], *views: Tensor) -> Tensor:
    """B V C H W each -> B V P in float32, all views in the order in which they are given."""
    return of_views(head, torch.cat([backbone(v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in views], 1))


def of_views(head: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """B V D -> B V P in float32, all views in one pass."""
    return head(features.flatten(0, 1)).float().unflatten(0, features.shape[:2])  # type: ignore[no-any-return]
