"""How unlike good parts is an image as a whole? The Mahalanobis distance of its features' means and spreads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from visionft.errors import ConfigError

from .scorer import Solved


class Statistics(Solved["Cloud"]):
    """Judges images, not places: what is wrong everywhere (a pattern, a colour, a weave) hides from patches.

    dims: directions in which good images differ most; the mean variance along all others is added to every one
    """

    def __init__(self, *, dims: int = 64) -> None:
        if dims < 1:
            raise ConfigError(f"dims={dims} are at least 1")
        super().__init__()
        self.dims = dims
        self.rows, self.fold = torch.empty(0, 0), torch.empty(0, dtype=torch.int16)

    def begin(self, folds: int) -> None:
        """No image has been described."""
        super().begin(folds)
        self.rows, self.fold = torch.empty(0, 0), torch.empty(0, dtype=torch.int16)
        self.held: list[tuple[Tensor, Tensor]] = []

    def take(self, patches: Tensor, fold: Tensor) -> None:
        """Keep mean and spread of every image."""
        self.held.append((described(patches), fold.to(torch.int16)))

    def settle(self) -> None:
        """Clouds are fitted when they are asked for."""
        self.rows, self.fold = (torch.cat(part) for part in zip(*self.held, strict=True))
        self.held = []

    def solve(self, without: int | None) -> Cloud:
        """The cloud of all images, or of all but a fold's."""
        return Cloud.of(self.rows if without is None else self.rows[self.fold != without], self.dims)

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B 1 1."""
        return self.fitted(without).distance(described(patches)).view(-1, 1, 1)

    def score_held(self, patches: Tensor, fold: int, *, whole: bool) -> Tensor:
        """As `score` without the fold; of whole images, each as if only it had not been there."""
        if not whole:
            return self.score(patches, without=fold)
        self.require(fold)
        n = torch.tensor(float(len(self.rows)), dtype=torch.float64)  # of one image alone nothing is known: nan
        q, c = self.score(patches).double().square() / n, n / (n - 1)
        return ((n - 1) * c**2 * q / (1 - c * q)).sqrt().float()  # Sherman and Morrison; the scale stays what it is

    def state(self) -> dict[str, Tensor]:
        """The cloud of all images."""
        return vars(self.fitted()).copy()

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Take over a cloud."""
        return self.keep(Cloud(**state))


@dataclass(frozen=True)
class Cloud:
    """A Gaussian of N rows with E features of unit variance, a ridge added to its covariance.

    The ridge is the mean variance along all but the first directions, as in probabilistic principal components (Tipping
    and Bishop 1999): what N rows say of those is chance.
    """

    mean: Tensor  # E
    spread: Tensor  # E
    axes: Tensor  # E K
    scale: Tensor  # K, standard deviations along the axes
    rest: Tensor  # the standard deviation along every other direction

    @classmethod
    def of(cls, rows: Tensor, dims: int) -> Cloud:
        """Fit; no more directions are kept than half of the rows can tell."""
        n, width = rows.shape
        mean, spread = rows.mean(0), rows.std(0).clamp_min(1e-6)
        _, values, axes = torch.linalg.svd((rows - mean) / spread, full_matrices=False)
        first = max(1, min(dims, n // 2, width - 1))
        variance = values.square() / n
        rest = (variance[first:].sum() / max(1, width - first)).clamp_min(1e-12)
        return cls(mean, spread, axes.T, (variance + rest).sqrt(), rest.sqrt())

    def distance(self, rows: Tensor) -> Tensor:
        """Of N E, the Mahalanobis distance, N."""
        z = (rows - self.mean) / self.spread
        inside = z @ self.axes
        outside = (z.square().sum(1) - inside.square().sum(1)).clamp_min(0)
        return ((inside / self.scale).square().sum(1) + outside / self.rest.square()).sqrt()


def described(patches: Tensor) -> Tensor:
    """B h w D -> B 2D: the mean of every feature over places, and its standard deviation."""
    flat = patches.flatten(1, 2)
    mean = flat.mean(1, keepdim=True)
    return torch.cat([mean[:, 0], (flat - mean).square_().mean(1).sqrt()], 1)  # torch's std takes ten times as long
