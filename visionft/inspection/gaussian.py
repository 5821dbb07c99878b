"""How unlikely is a patch under a Gaussian of good parts' patches? (PaDiM, arXiv:2011.08785)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from visionft.errors import ConfigError

from .scorer import Solved

LEAST = 4  # cells along either side of a tile of a large image, which hold a covariance each
RIDGE = 0.01  # of the mean variance, added to every variance: few images leave directions without any


class Gaussian(Solved[tuple[Tensor, Tensor]]):
    """The Mahalanobis distance to the mean patch, of all places or, with `aligned`, of the same place.

    aligned: whether parts lie under the camera in the same way, so that every place has a Gaussian of its own
    cells: of a grid over the image, along either side, that get one; neighbouring places share it
    dims: features that are kept, evenly spread; 0 keeps all
    """

    def __init__(self, *, aligned: bool = False, cells: int = 14, dims: int = 0) -> None:
        if cells < 1 or dims < 0:
            raise ConfigError(f"cells={cells} are at least 1, and dims={dims} at least 0")
        super().__init__()
        self.aligned, self.cells, self.dims = aligned, cells, dims
        self.origin, self.count, self.sum, self.square = (torch.empty(0) for _ in range(4))

    @property
    def placed(self) -> bool:
        """Whether places have Gaussians of their own."""
        return self.aligned

    @property
    def alone(self) -> bool:
        """Whether `_left_out` is at hand."""
        return self.aligned

    def part(self, tiles: int) -> Gaussian:
        """For a tile: cells are about as large a part of the image as they would be of one that is not cut."""
        cells = min(self.cells, max(LEAST, math.ceil(self.cells / math.sqrt(tiles))))
        return Gaussian(aligned=self.aligned, cells=cells, dims=self.dims)

    def begin(self, folds: int) -> None:
        """Nothing is known of any fold."""
        super().begin(folds)
        self.count, self.sum, self.square = torch.zeros(folds, self.side**2), torch.empty(0), torch.empty(0)

    def take(self, patches: Tensor, fold: Tensor) -> None:
        """Add up counts, sums and products by fold, so that any fold can be left out afterwards."""
        x = self._kept(patches)
        if not len(self.sum):
            shape = (*self.count.shape, x.shape[3])
            self.origin = x.mean((0, 1, 2))  # sums of squares far from 0 would lose their last digits
            self.sum = torch.zeros(shape, dtype=torch.float64)
            self.square = torch.zeros(*shape, x.shape[3], dtype=torch.float64)
        rows, columns = (dict(parts) for parts in self._grid(patches))
        seats, back = _seats(list(columns.values()))
        real = torch.zeros(len(seats)).index_fill(0, back, 1)  # repeated places are not to count twice
        x = _taken(x - self.origin, seats) * real[:, None]
        each = real.view(len(columns), -1).sum(1)
        for f in fold.unique().tolist():
            own = x[fold == f]
            for row, down in rows.items():
                cells = torch.tensor(list(columns)) + row * self.side
                some = own[:, down].unflatten(2, (len(columns), -1)).movedim(2, 0).flatten(1, 3)  # C n D
                self.count[f, cells] += each * len(own) * (down.stop - down.start)
                self.sum[f, cells] += some.double().sum(1)
                self.square[f, cells] += (some.transpose(1, 2) @ some).double()

    def settle(self) -> None:
        """Means and covariances are made of the sums when they are asked for."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B h w."""
        rows, _, back = self._deviations(patches, without)
        return _taken(torch.cat([_laid(z.square().sum(4).sqrt()) for z in rows.values()], 1), back)

    def score_held(self, patches: Tensor, fold: int, *, whole: bool) -> Tensor:
        """As `score` without the fold; of whole images, each as if only it had not been there.

        Where every place has a Gaussian of its own, a tenth fewer images make new ones seem odder: by .4 standard
        deviations with 300 photos of cloth, so that thresholds were too high by that.
        """
        if not whole or not self.aligned:
            return self.score(patches, without=fold)
        self.require(fold)
        rows, own, back = self._deviations(patches, None)
        count, found = self.count.sum(0).view(self.side, self.side), []
        for row, z in rows.items():
            real = torch.zeros(z.shape[0] * z.shape[3]).index_fill(0, back, 1).view(len(z), 1, -1)  # C 1 w
            mask = real.expand(-1, z.shape[2], -1).flatten(1)  # C r: repeated places are not to count twice
            lengths = _left_out(z.flatten(2, 3) * mask[:, None, :, None], count[row, own], mask.sum(1))
            found.append(_laid(lengths.view(z.shape[:4])))
        return _taken(torch.cat(found, 1), back)

    def state(self) -> dict[str, Tensor]:
        """What deviations are taken from, D, and of each cell its mean, D, and what whitens them, D D."""
        mean, white = self.fitted()
        return {"origin": self.origin, "mean": mean, "white": white}

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Take over the Gaussians."""
        self.keep((state["mean"], state["white"]))
        self.origin = state["origin"]
        return self

    def _kept(self, patches: Tensor) -> Tensor:
        """B h w D -> with the features that count."""
        dims = patches.shape[3]
        if not 0 < self.dims < dims:
            return patches
        return patches[..., torch.linspace(0, dims - 1, self.dims).round().long()]

    @property
    def side(self) -> int:
        """Cells along either side."""
        return self.cells if self.aligned else 1

    def _grid(self, patches: Tensor) -> list[list[tuple[int, slice]]]:
        """Which rows of cells, and then which columns, B h w D patches lie in, each with what lies in it."""
        return [_parts(length, self.side) for length in patches.shape[1:3]]

    def _deviations(self, patches: Tensor, without: int | None) -> tuple[dict[int, Tensor], Any, Tensor]:
        """Of each row of cells, whitened deviations (C B h w D) from their means; which columns of cells; the way back.

        Cells are as wide as the widest; the places along the way back are those that patches have.
        """
        mean, white = (of.unflatten(0, (self.side, self.side)) for of in self.fitted(without))
        rows, columns = (dict(parts) for parts in self._grid(patches))
        own = slice(None) if len(columns) == self.side else list(columns)
        seats, back = _seats(list(columns.values()))
        x = _taken(self._kept(patches) - self.origin, seats)
        found = {row: _whiten(x[:, down], mean[row, own], white[row, own]) for row, down in rows.items()}
        return found, own, back

    def solve(self, without: int | None) -> tuple[Tensor, Tensor]:
        """Mean (cells D) and what makes the covariance of each cell the identity (cells D D).

        A cell that has seen nothing, as images of other sizes have other places, is like all cells together.
        """
        keep = [f for f in range(len(self.count)) if f != without]
        n, total, square = (of[keep].sum(0).double() for of in (self.count, self.sum, self.square))
        none = n == 0
        n[none], total[none], square[none] = n.sum(), total.sum(0), square.sum(0)
        mean = total / n[:, None]
        cov = square / n[:, None, None] - mean[:, :, None] * mean[:, None, :]
        return mean.float(), whitening(cov).float()


def whitening(cov: Tensor) -> Tensor:
    """... D D -> ... D D: rows times it have the identity as covariance where they had this one, and a ridge."""
    level = cov.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-12)[..., None, None]
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype)
    lower = torch.linalg.cholesky(cov + RIDGE * level * eye)
    white: Tensor = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False).mT
    return white


def _left_out(z: Tensor, n: Tensor, r: Tensor) -> Tensor:
    """C B R: the distances of whitened patches (C B R D) to Gaussians of n (C) patches of which they are r (C).

    Without them the mean moves by -(sum of z) / (n - r), and n times the covariance loses Z'CZ, where C = I + 11' /
    (n - r); Sherman, Morrison and Woodbury invert what is left, by way of I - SZZ'S / n, where SS = C. The ridge is
    kept as if n were what it was. A Gaussian of these patches alone is left as it is: nothing else is known of its
    place.
    """
    z, n, rest = z.double(), n.double()[:, None, None, None], (n - r).double()[:, None, None, None]
    alone = rest < 1
    rest = torch.where(alone, torch.ones_like(rest), rest)
    q = torch.where(alone, torch.zeros_like(z[..., :1]), z @ z.mT / n.clamp_min(1))
    eye, side = torch.eye(z.shape[2], dtype=z.dtype), z.shape[2]
    root = eye + ((1 + side / rest).sqrt() - 1) / side
    lower = torch.linalg.cholesky(eye - root @ q @ root)  # by LU, MKL's threads never end
    found = torch.linalg.solve_triangular(lower, root.expand_as(lower), upper=False)
    lengths = (rest[..., 0] * (found.square().sum(2) - 1 - 1 / rest[..., 0])).clamp_min(0).sqrt()
    return torch.where(alone[..., 0], z.norm(dim=3), lengths).float()


def _parts(length: int, count: int) -> list[tuple[int, slice]]:
    """A length in so many consecutive parts, as equal as they can be, without those that are empty."""
    ends = [-(-length * at // count) for at in range(count + 1)]
    return [(at, slice(*pair)) for at, pair in enumerate(itertools.pairwise(ends)) if pair[0] < pair[1]]


def _seats(parts: Sequence[slice]) -> tuple[Tensor, Tensor]:
    """Indices that make all parts as long as the longest, by repeating their last place; and those that undo it."""
    most = max(part.stop - part.start for part in parts)
    seats = [min(part.start + at, part.stop - 1) for part in parts for at in range(most)]
    back = [number * most + at for number, part in enumerate(parts) for at in range(part.stop - part.start)]
    return torch.tensor(seats), torch.tensor(back)


def _taken(x: Tensor, columns: Tensor) -> Tensor:
    """B h w ... with these columns; as many as there are, are all in their order."""
    return x if len(columns) == x.shape[2] else x.index_select(2, columns)


def _whiten(x: Tensor, mean: Tensor, white: Tensor) -> Tensor:
    """B h w D -> C B h w/C D: whitened distances from the means (C D) of C cells, side by side along w."""
    cells = x.unflatten(2, (len(mean), -1)).movedim(2, 0)
    found: Tensor = (cells.flatten(1, 3) - mean[:, None]) @ white
    return found.view(cells.shape)


def _laid(lengths: Tensor) -> Tensor:
    """C B h w -> B h C*w: cells side by side."""
    return lengths.movedim(0, 2).flatten(2)
