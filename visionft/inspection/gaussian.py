"""How unlikely is a patch under a Gaussian of good parts' patches? (PaDiM, arXiv:2011.08785)."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.errors import ConfigError

from .scorer import Folded, Scorer

RIDGE = 0.01  # of the mean variance, added to every variance: few images leave directions without any


class Gaussian(Scorer):
    """The Mahalanobis distance to the mean patch, of all places or, with `aligned`, of the same place.

    aligned: whether parts lie under the camera in the same way, so that every place has a Gaussian of its own
    cells: places along the longer side that get one; neighbouring places share it
    dims: features that are kept, evenly spread; 0 keeps all
    """

    def __init__(self, *, aligned: bool = False, cells: int = 14, dims: int = 0) -> None:
        if cells < 1 or dims < 0:
            raise ConfigError(f"cells={cells} are at least 1, and dims={dims} at least 0")
        self.aligned, self.cells, self.dims = aligned, cells, dims
        self.origin, self.count, self.sum, self.square = (torch.empty(0) for _ in range(4))
        self.known: dict[int | None, tuple[Tensor, Tensor]] = {}

    def fit(self, patches: Folded, folds: int) -> Self:
        """Add up counts, sums and products by fold, so that any fold can be left out afterwards."""
        for part, fold in patches:
            x, place = self._placed(part)  # B P D, P
            cells, dims = int(place.max()) + 1, x.shape[2]
            if not len(self.count):
                self.origin = x.mean((0, 1))  # sums of squares far from 0 would lose their last digits
                self.count = torch.zeros(folds, cells)
                self.sum = torch.zeros(folds, cells, dims, dtype=torch.float64)
                self.square = torch.zeros(folds, cells, dims, dims, dtype=torch.float64)
            x = x - self.origin
            for f in fold.unique().tolist():
                own = x[fold == f]
                for cell in range(cells):
                    some = own[:, place == cell].flatten(0, 1)
                    self.count[f, cell] += len(some)
                    self.sum[f, cell] += some.double().sum(0)
                    self.square[f, cell] += (some.T @ some).double()
        self.known = {}
        return self

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B h w."""
        mean, white = self._whitened(without)
        x, place = self._placed(patches)
        found = torch.empty(x.shape[:2])
        for cell in place.unique().tolist():
            at = place == cell
            found[:, at] = ((x[:, at] - self.origin - mean[cell]) @ white[cell]).square().sum(2).sqrt()
        return found.view(patches.shape[:3])

    def state(self) -> dict[str, Tensor]:
        """Counts, sums and products by fold and place."""
        return {"origin": self.origin, "count": self.count, "sum": self.sum, "square": self.square}

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Take over what was added up."""
        self.origin, self.count, self.sum, self.square = (state[key] for key in ("origin", "count", "sum", "square"))
        self.known = {}
        return self

    def _placed(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """B h w D -> B P D with the features that count, and the cell of each place, P."""
        _, h, w, dims = patches.shape
        keep = torch.linspace(0, dims - 1, min(dims, self.dims or dims)).round().long()
        if not self.aligned:
            return patches.flatten(1, 2)[..., keep], torch.zeros(h * w, dtype=torch.long)
        rows, columns = (min(self.cells, side) for side in (h, w))
        ids = torch.arange(rows * columns, dtype=torch.float32).view(1, 1, rows, columns)
        return patches.flatten(1, 2)[..., keep], F.interpolate(ids, (h, w)).long().flatten()

    def _whitened(self, without: int | None) -> tuple[Tensor, Tensor]:
        """Mean (cells D) and what makes the covariance of each cell the identity (cells D D)."""
        if without not in self.known:
            keep = [f for f in range(len(self.count)) if f != without]
            n = self.count[keep].sum(0).double()
            mean = self.sum[keep].sum(0) / n[:, None]
            cov = self.square[keep].sum(0) / n[:, None, None] - mean[:, :, None] * mean[:, None, :]
            level = cov.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)[:, None, None]
            cov += RIDGE * level * torch.eye(cov.shape[1])
            white = torch.linalg.inv(torch.linalg.cholesky(cov)).transpose(1, 2)
            self.known[without] = mean.float(), white.float()
        return self.known[without]
