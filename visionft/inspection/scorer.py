"""The contract of a one-class scorer: it learns what good parts look like and says how unlike them a place is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Self, TypeVar

from torch import Tensor

Folded = Iterable[tuple[Tensor, Tensor]]  # batches of patches (B h w D) and the fold of each image (B)


class Scorer:
    """Fitted to features of good parts, it scores any: higher is more anomalous, monotone, never clamped.

    Every image of the good parts belongs to one of `folds` folds. `score(..., without=f)` answers as if fold f had not
    been fitted to, so that good parts can be scored that the scorer has, in effect, not seen; one pass over them does.
    `score_held` does so as well as the scorer can.
    Options are keyword arguments of the constructor; `state` holds tensors only and `restore` reads them.
    """

    learns_defects = False  # whether `take` is told of defects, too
    folds = 0  # that it can do without: none before `begin`, and none after `restore`

    @property
    def placed(self) -> bool:
        """Whether a place is compared with the same place of good parts: then every tile of an image has a scorer."""
        return False

    @property
    def alone(self) -> bool:
        """Whether `score_held` leaves out each whole image by itself, and need not know folds for it."""
        return False

    def fit(self, patches: Folded, folds: int) -> Self:
        """Learn from one pass over the good parts, in their order; the same order gives the same scorer."""
        self.begin(folds)
        for part, fold in patches:
            self.take(part, fold)
        self.settle()
        return self

    def begin(self, folds: int) -> None:
        """Forget everything: good parts of so many folds will be taken."""
        raise NotImplementedError

    def take(self, patches: Tensor, fold: Tensor) -> None:
        """Take in patches (B h w D) of good parts, and the fold of each (B)."""
        raise NotImplementedError

    def settle(self) -> None:
        """All good parts have been taken."""
        raise NotImplementedError

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        """B h w D -> B h w, or B 1 1 where a scorer judges images as a whole."""
        raise NotImplementedError

    def score_held(self, patches: Tensor, fold: int, *, whole: bool) -> Tensor:
        """Score images that were fitted to, all of one fold, as if they had not been; B h w D -> as `score` does.

        `whole` says that each of these is all of its image, not one tile of several: then it is enough to leave each
        one out, which takes less away from what others taught.
        """
        return self.score(patches, without=fold)

    def part(self, tiles: int) -> Scorer:
        """One like it, for a tile of images that are cut into so many; asked of those that are `placed`."""
        raise NotImplementedError

    def require(self, fold: int | None) -> None:
        """Raise KeyError unless this fold can be left out."""
        if fold is not None and not 0 <= fold < self.folds:
            raise KeyError(f"fold {fold} cannot be left out: {self.folds or 'none'} are known")

    def state(self) -> dict[str, Tensor]:
        """Everything that `score` takes for new images."""
        raise NotImplementedError

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Become the scorer that said this, for new images."""
        raise NotImplementedError


Fit = TypeVar("Fit")


class Solved(Scorer, Generic[Fit]):
    """A scorer that keeps what every fold adds, and solves for a fit when one is asked for."""

    def __init__(self) -> None:
        self.known: dict[int | None, Fit] = {}  # fits to all that was taken, under None, or to all but a fold

    def begin(self, folds: int) -> None:
        """Forget every fit."""
        self.folds, self.known = folds, {}

    def solve(self, without: int | None) -> Fit:
        """A fit to all that was taken, or to all but a fold."""
        raise NotImplementedError

    def fitted(self, without: int | None = None) -> Fit:
        """That fit, solved for once. Raises KeyError for a fold that is not known."""
        self.require(without)
        if without not in self.known:
            self.known[without] = self.solve(without)
        return self.known[without]

    def keep(self, fit: Fit) -> Self:
        """Have this fit and no other: folds cannot be left out any more."""
        self.begin(0)
        self.known[None] = fit
        return self
