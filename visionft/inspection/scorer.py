"""The contract of a one-class scorer: it learns what good parts look like and says how unlike them a place is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

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

    def state(self) -> dict[str, Tensor]:
        """Everything that `score` takes."""
        raise NotImplementedError

    def restore(self, state: dict[str, Tensor]) -> Self:
        """Become the scorer that said this."""
        raise NotImplementedError
