"""Several things to learn from one image, each by a linear head of its own on the same features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.data.targets import Classes, Flags, Levels, Number, Target, encode, of, parts
from visionft.droppath import drop_paths
from visionft.objective import Objective, View


class Rows(nn.Module):
    """A linear layer some of whose outputs share a row of weights and differ by their bias alone."""

    def __init__(self, dim: int, row: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max(row) + 1, dim))
        self.bias = nn.Parameter(torch.zeros(len(row)))
        nn.init.trunc_normal_(self.weight, std=0.01)  # near the prior: early steps must not wreck the backbone
        self.row = nn.Buffer(torch.tensor(row), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B W."""
        return F.linear(features, self.weight)[:, self.row] + self.bias


class Heads(Objective):
    """One linear head for each column of a table; the loss is the mean of their losses, each column counts alike.

    Classes: cross-entropy. Flags: binary cross-entropy, mean over the flags of a column. Numbers: smooth L1 of
    (number - mean) / scale. Levels: cumulative link with one row of weights for all cuts, mean over cuts
    (CORAL, arXiv:1901.07884). Where a value is not known the image costs that head nothing.

    targets: what the columns hold; the runner fills it in
    dropout: on the features, while training
    drop_path: share of images that skip the last block, while training; it rises to that with depth (stochastic depth)
    """

    divides = True
    gentle = 1e-4
    sees = {"image": View("light")}
    good_for = "columns of a table, target=: flags, numbers, levels, several at once"

    def __init__(
        self,
        backbone: Backbone,
        *,
        targets: Sequence[Mapping[str, Any]],
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        drop_paths(backbone, drop_path)
        self.backbone, self.dropout = backbone, nn.Dropout(dropout)
        self.targets = [of(facts) for facts in targets]
        self.head = Rows(backbone.dim, rows(self.targets))

    def columns(self, pixels: Sequence[np.ndarray], table: Table, size: int, **how: Any) -> dict[str, Tensor]:
        """What is known of each image, as float64: a float32 could not tell large numbers apart."""
        return {"targets": torch.from_numpy(encode(self.targets, table))}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses, given `image` (B C H W) and `targets` (B V, nan where nothing is known)."""
        logits = self.head(self.dropout(self.backbone(batch["image"]))).float()
        costs = self.losses(logits, batch["targets"])
        return {"loss": torch.stack(list(costs.values())).mean(), **{f"{name}/loss": v for name, v in costs.items()}}

    def losses(self, logits: Tensor, values: Tensor) -> dict[str, Tensor]:
        """By column, what these logits (B W) cost against these values (B V).

        The sum over known values is divided by how many a batch of this size has on average, not by how many this one
        has: parts of a batch then add up to the whole.
        """
        costs = {}
        for target, out, own in zip(self.targets, parts(self.targets, "width"), parts(self.targets), strict=True):
            known = values[:, own].isfinite()
            cost = elements(target, logits[:, out], values[:, own].nan_to_num(0.0)) * known
            costs[target.column] = cost.sum() / (known.numel() * target.known)
        return costs

    def predict(self, images: Tensor) -> Tensor:
        """B C H W -> B A: probabilities, and numbers as they were learnt (less the mean, over the scale)."""
        return said(self.targets, self.head(self.backbone(images)).float())

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin with the answers of probes instead of the prior: LP-FT, arXiv:2202.10054."""
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)


def rows(targets: Sequence[Target]) -> list[int]:
    """Which row of weights each output reads: the cuts of levels share one, all others have their own."""
    found: list[int] = []
    for target in targets:
        first = max(found, default=-1) + 1
        found += [first if isinstance(target, Levels) else first + at for at in range(target.width)]
    return found


def elements(target: Target, logits: Tensor, values: Tensor) -> Tensor:
    """What each value (B V) costs, B V."""
    match target:
        case Classes():
            return F.cross_entropy(logits, values[:, 0].long(), reduction="none")[:, None]
        case Flags():
            return F.binary_cross_entropy_with_logits(logits, values.float(), reduction="none")
        case Number():
            standard = ((values - target.mean) / target.scale).float()
            return F.smooth_l1_loss(logits, standard, reduction="none")
        case Levels():
            above = (values > torch.arange(target.width, device=values.device)).float()  # B K-1
            return F.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1, keepdim=True)
    raise NotImplementedError(target.kind)


def said(targets: Sequence[Target], logits: Tensor) -> Tensor:
    """B W logits -> B A answers."""
    found = [_said(target, logits[:, at]) for target, at in zip(targets, parts(targets, "width"), strict=True)]
    return torch.cat(found, dim=1)


def _said(target: Target, logits: Tensor) -> Tensor:
    match target:
        case Classes():
            return logits.softmax(1)
        case Flags():
            return logits.sigmoid()
        case Levels():  # where training left a cut above the one before it, they count as one
            above = F.pad(logits.cummin(1).values.sigmoid(), (1, 0), value=1.0)
            return above - F.pad(above[:, 1:], (0, 1), value=0.0)
    return logits


def prior(share: float, count: float) -> float:
    """The logit of a share among so many images, as if half a one more had been on either side."""
    yes = share * count
    return math.log((yes + 0.5) / (count - yes + 0.5))
