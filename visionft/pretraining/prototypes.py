"""Prototypes: learned directions that a student and its teacher agree on, instead of classes."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft.parallel import total


class Prototypes(nn.Module):
    """MLP to a unit sphere, then the cosine to K learned directions.

    lightly's DINOProjectionHead with `batch_norm` and `norm_last_layer`, without torch's deprecated weight_norm, whose
    modules cannot be copied. The last batch norm keeps short runs on few images from falling to a line (measured).
    """

    def __init__(self, dim: int, k: int, width: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            *(nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width), nn.GELU()),
            *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.GELU()),
            *(nn.Linear(width, bottleneck), nn.BatchNorm1d(bottleneck, affine=False)),
        )
        self.directions = nn.Parameter(torch.randn(k, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """B D -> B K, each in [-1, 1]."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.directions, dim=-1).T


class Settled(nn.Module):
    """A teacher's cosines, settled among the rows of all processes so that no prototype takes them all.

    `sinkhorn` deals the rows evenly to the prototypes (arXiv:2006.09882); `centre` subtracts a running mean, of
    `momentum`, from each prototype (arXiv:2104.14294).
    """

    mean: Tensor

    def __init__(self, way: Literal["sinkhorn", "centre"], k: int, momentum: float) -> None:
        super().__init__()
        self.way, self.momentum = way, momentum
        self.register_buffer("mean", torch.zeros(k))

    @torch.no_grad()
    def forward(self, cosines: Tensor, temperature: float) -> Tensor:
        """R K -> R K, rows of probabilities."""
        if self.way == "sinkhorn":
            return sinkhorn(cosines, temperature)
        target = ((cosines - self.mean) / temperature).softmax(-1)
        if self.training:
            seen = total(cosines.sum(0)) / total(cosines.new_tensor(len(cosines)))
            self.mean.lerp_(seen, 1 - self.momentum)
        return target


def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """R K -> R K: rows of probabilities that add up to about the same for every prototype, over all processes.

    lightly's, but for processes that have different numbers of rows, too (hidden patches).
    """
    q = (cosines / temperature).exp()
    for _ in range(rounds):
        q = q / total(q.sum(0))
        q = q / q.sum(1, keepdim=True)
    return q


def sized_to(images: int) -> int:
    """As many prototypes as a data set can fill: a power of two near half its images."""
    return 1 << round(math.log2(min(16384, max(256, images / 2))))
