"""Is a place what other features of good parts foretell there? Ridge regression, and what it cannot explain."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from visionft.errors import ConfigError

from .gaussian import whitening
from .scorer import Solved


class Foretold(Solved[tuple[Tensor, Tensor, Tensor]]):
    """The Mahalanobis length of what ridge regression leaves of some features (T), given others (K).

    Sums over all patches are all that is kept, by fold, and solved at the end: nothing is trained step by step, and any
    fold can be left out. Subclasses say what is given and what is asked for.

    ridge: of each given feature's variance, added to it
    """

    def __init__(self, *, ridge: float = 0.01) -> None:
        if ridge <= 0:
            raise ConfigError(f"ridge={ridge} lies above 0")
        super().__init__()
        self.ridge, self.given = ridge, 0
        self.origin, self.count, self.sum, self.square = (torch.empty(0) for _ in range(4))

    def told(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """B h w D -> what is given, B h w K, and what it should foretell, B h w T."""
        raise NotImplementedError

    def begin(self, folds: int) -> None:
        """Nothing is known of any fold."""
        super().begin(folds)
        self.origin, self.count, self.sum, self.square = (torch.empty(0) for _ in range(4))

    def take(self, patches: Tensor, fold: Tensor) -> None:
        """Add up counts, sums and products by fold, of what is given and what is asked for, side by side."""
        given, asked = self.told(patches)
        x = torch.cat([given, asked], 3)
        if not len(self.sum):
            self.given, width = given.shape[3], x.shape[3]
            self.origin = x.mean((0, 1, 2))  # sums of squares far from 0 would lose their last digits
            self.count = torch.zeros(self.folds)
            self.sum = torch.zeros(self.folds, width, dtype=torch.float64)
            self.square = torch.zeros(self.folds, width, width, dtype=torch.float64)
        x = x - self.origin
        for f in fold.unique().tolist():
            own = x[fold == f].flatten(0, 2)
            self.count[f] += len(own)
            self.sum[f] += own.double().sum(0)
            self.square[f] += (own.T @ own).double()

    def settle(self) -> None:
        """Solved for when it is asked for."""

    def solve(self, without: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (K + T), weights (K T) and what whitens what they leave (T T)."""
        keep = [f for f in range(self.folds) if f != without]
        n, total, square = (of[keep].sum(0).double() for of in (self.count, self.sum, self.square))
        mean = total / n
        cov = square / n - mean[:, None] * mean
        k = self.given
        xx, xy, yy = cov[:k, :k], cov[:k, k:], cov[k:, k:]
        level = xx.diagonal().mean().clamp_min(1e-12)
        held = xx + torch.diag(self.ridge * xx.diagonal() + 1e-6 * level)  # a feature that never varies tells nothing
        weights = torch.linalg.solve(held, xy)
        left = yy - weights.T @ xy - xy.T @ weights + weights.T @ xx @ weights
        white = whitening(left)
        return (self.origin + mean).float(), (weights @ white).float(), white.float()

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B h w."""
        mean, weights, white = self.fitted(without)
        x, y = self.told(patches)
        left = (y - mean[x.shape[3] :]) @ white - (x - mean[: x.shape[3]]) @ weights
        return left.square().sum(3).sqrt()

    def state(self) -> dict[str, Tensor]:
        """The regression: mean, weights, and what whitens what they leave."""
        return dict(zip(("mean", "weights", "white"), self.fitted(), strict=True))

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Take over a regression."""
        return self.keep((state["mean"], state["weights"], state["white"]))
