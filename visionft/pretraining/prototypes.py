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
    `momentum`, from each prototype (arXiv:2104.14294), which moves once per step, however many parts a batch has.
    """

    mean: Tensor
    seen: Tensor

    def __init__(self, way: Literal["sinkhorn", "centre"], k: int, momentum: float) -> None:
        super().__init__()
        self.way, self.momentum = way, momentum
        self.register_buffer("mean", torch.zeros(k))
        self.register_buffer("seen", torch.zeros(k + 1))  # since the last step: the sum of the rows, and their number

    @torch.no_grad()
    def forward(self, cosines: Tensor, temperature: float) -> Tensor:
        """... K -> ... K, rows of probabilities."""
        rows = cosines.flatten(0, -2)
        if self.way == "sinkhorn":
            return sinkhorn(rows, temperature).view_as(cosines)
        if self.training:
            self.seen += total(F.pad(rows, (0, 1), value=1.0).sum(0))
        return ((cosines - self.mean) / temperature).softmax(-1)

    @torch.no_grad()
    def move(self) -> None:
        """Move the centre towards the mean of the rows seen since it moved last."""
        rows = self.seen[-1]
        self.mean.lerp_(self.seen[:-1] / rows.clamp(min=1), (1 - self.momentum) * rows.clamp(max=1))
        self.seen.zero_()


def agreement(said: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the first T views of each image (B T K) to all V that are not the same view (B V K logarithms).

    -mean over images and pairs t != v of sum_k target[b, t, k] said[b, v, k]
    """
    likelihood: Tensor = torch.einsum("btk,bvk->tv", target, said) / len(said)
    other = 1 - torch.eye(*likelihood.shape, device=said.device)
    return -(likelihood * other).sum() / other.sum()


def entropy(p: Tensor) -> Tensor:
    """Mean entropy of the rows of ... K probabilities, in nats: the logarithm of K says nothing, 0 is sure."""
    return torch.special.entr(p).sum(-1).mean()  # type: ignore[no-any-return]


def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """R K -> R K: rows of probabilities that add up to about the same for every prototype, over all processes.

    lightly's, but for processes that have different numbers of rows, too (hidden patches).
    """
    q = (cosines / temperature).exp()
    for _ in range(rounds):
        q = q / total(q.sum(0))
        q = q / q.sum(1, keepdim=True)
    return q


def sized_to(images: float, least: int = 256, most: int = 16384) -> int:
    """As many prototypes as these images can fill: a power of two near their number, within bounds."""
    return 1 << round(math.log2(min(most, max(least, images))))
