"""Which patches are compared: all of an image with one scorer or, where places count, each tile's with its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from visionft.errors import DataError

from .scorer import Scorer
from .sight import Sight
from .stream import Owner

WHOLE = ""  # the key of the scorer that no tile has for itself


class TileScorers:
    """One scorer for images as a whole or, if it is `placed`, one like it for each of the tiles that they are cut into.

    Places of one tile are not those of another, and twenty photos of a large board tell what each of its tiles looks
    like. An image of one tile is a whole.
    """

    def __init__(self, sight: Sight, scorer: Scorer) -> None:
        self.sight, self.scorer = sight, scorer
        self.parts: dict[str, Scorer] = {}  # which have seen something
        self.folds = 0  # of the good parts; a scorer that cannot leave one out need not know

    def begin(self, folds: int) -> None:
        """Forget everything: good parts of so many folds will be taken."""
        self.scorer.begin(folds)
        self.folds, self.parts = folds, {}

    def take(self, patches: Tensor, owners: Sequence[Owner], **words: Any) -> None:
        """Let the scorer of each tile (B h w D) take it; `words` go with it."""
        for key, rows in self._dealt(owners):
            if key not in self.parts:
                self.parts[key] = self._made(owners[rows[0]])
            fold = [owners[row].at % self._folds(key) for row in rows]
            self.parts[key].take(_of(patches, rows), torch.tensor(fold), **words)

    def settle(self) -> None:
        """All good parts have been taken."""
        for part in self.parts.values():
            part.settle()

    def scored(self, patches: Tensor, owners: Sequence[Owner], fold: int | None) -> Tensor:
        """What is said of tiles (B h w D), B h w; of those of a fold as if it had not been seen.

        Raises DataError for a tile of images that are cut otherwise than those that were learnt from.
        """
        found: dict[int, Tensor] = {}
        for key, rows in self._dealt(owners):
            part, own = self.of(owners[rows[0]]), _of(patches, rows)
            if fold is None:
                said = part.score(own)
            else:  # the scorer of a tile has seen nothing else of an image
                whole = key != WHOLE or all(self._tiles(owners[row]) == (1, 1) for row in rows)
                said = part.score_held(own, fold % self._folds(key), whole=whole)
            found |= zip(rows, said, strict=True)
        return torch.stack([found[row] for row in range(len(owners))])

    def of(self, owner: Owner) -> Scorer:
        """The scorer of a tile. Raises DataError where nothing like it was learnt from."""
        key = self._key(owner)
        if key not in self.parts:
            raise DataError(
                f"a photo of {owner.size[1]} x {owner.size[0]} pixels is looked at in {math.prod(self._tiles(owner))} "
                "tiles, unlike those that were learnt from, and places of other tiles cannot be compared: take photos "
                "of one size, or eyes=anywhere, which compares no places"
            )
        return self.parts[key]

    def _key(self, owner: Owner) -> str:
        rows, columns = self._tiles(owner) if self.scorer.placed else (1, 1)
        return WHOLE if rows == columns == 1 else f"{owner.tile} of {rows} x {columns}/"

    def _tiles(self, owner: Owner) -> tuple[int, int]:
        """Rows and columns of tiles."""
        tops, lefts = zip(*self.sight.tiles(*owner.size).corners, strict=True)
        return len(set(tops)), len(set(lefts))

    def _dealt(self, owners: Sequence[Owner]) -> list[tuple[str, list[int]]]:
        """Scorers by key, and which of the tiles are theirs."""
        found: dict[str, list[int]] = {}
        for row, owner in enumerate(owners):
            found.setdefault(self._key(owner), []).append(row)
        return list(found.items())

    def _folds(self, key: str) -> int:
        """That the scorer of this key knows; a tile's, that leaves out each image by itself, knows one."""
        return 1 if key != WHOLE and self.scorer.alone else self.folds

    def _made(self, owner: Owner) -> Scorer:
        """The scorer of a tile that is seen for the first time."""
        if self._key(owner) == WHOLE:
            return self.scorer
        part = self.scorer.part(math.prod(self._tiles(owner)))
        part.begin(self._folds(self._key(owner)))
        return part

    def forget(self) -> None:
        """Keep what judging new images takes, and let go of what it takes to judge those that were learnt from."""
        for part in self.parts.values():
            part.restore(part.state())

    def state(self) -> dict[str, Tensor]:
        """Everything that judging new images takes."""
        return {f"{key}{name}": tensor for key, part in self.parts.items() for name, tensor in part.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Become the eye that said this, for new images. Raises KeyError for what is missing."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            key, slash, own = name.rpartition("/")
            states.setdefault(key + slash, {})[own] = tensor
        self.parts = {}
        for key, own_state in (states or {WHOLE: {}}).items():
            count = math.prod(int(side) for side in key.rstrip("/").partition(" of ")[2].split(" x ") if side)
            part = self.scorer if key == WHOLE else self.scorer.part(count)
            self.parts[key] = part.restore(own_state)


def _of(patches: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows; all of them are not copied."""
    return patches if len(rows) == len(patches) else patches[list(rows)]
