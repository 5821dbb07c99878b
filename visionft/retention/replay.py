"""Replay: some retained images in every batch, of which the backbone must say what it said (arXiv:2004.07211)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from visionft.data.views import Item, Views
from visionft.objective import Objective
from visionft.order import Draw

from .kept import Kept, Passes
from .start import Start, What


class Replay(Kept):
    """Each k-th new image brings a retained one along, on which the start's word is kept; no labels are needed.

    weight: of the distance from what the start says, beside the task's loss
    every: new images for one retained image
    what: answers of the classifier that came with the weights, or pooled features; auto: answers where there are any
    temperature: at which answers are compared
    """

    moves, replays = False, True

    def __init__(
        self,
        task: Objective,
        images: Views | None = None,
        *,
        weight: float = 1.0,
        every: int = 2,
        what: What = "auto",
        temperature: float = 2.0,
    ) -> None:
        super().__init__(task)
        self.strength, self.every = weight, every
        self.aside.start = Start(self.backbone, what, temperature)

    def deal(self, training: Views, memory: Views | None) -> Dataset[Any]:
        """New images with their companions."""
        assert memory is not None, "the table of remedies refuses replay without retained images"
        return Replayed(training, memory, self.every)

    def penalty(self, batch: Mapping[str, Tensor], passes: Passes) -> Tensor:
        """0 at the start, as long as batch norms keep their statistics."""
        images = batch["retained"]
        distance: Tensor = self.aside.start.distance(images, self.backbone(images))
        return self.strength * distance


class Replayed(Dataset[Item]):
    """New images, the first of every `every` in a batch with a retained one under `retained`.

    Which one, and how it is changed, depends on the draw of the new image, which is a function of (seed, epoch,
    index). So resuming changes nothing, and parts of a batch or processes with a multiple of `every` images each bring
    along what the whole batch would.
    """

    def __init__(self, new: Views, memory: Views, every: int) -> None:
        self.new, self.memory, self.every = new, memory, every
        self.columns = new.columns

    def __len__(self) -> int:
        return len(self.new)

    def __getitem__(self, index: int) -> Item:
        return self.new[index]

    def collate(self, items: Sequence[Item]) -> dict[str, Any]:
        """The batch of the new images, and `retained`, uint8 B/every C H W."""
        batch = self.new.collate(items)
        drawn = [self.memory[self._companion(int(draw))] for draw in batch["draw"][:: self.every]]
        return batch | {"retained": self.memory.collate(drawn)["image"]}

    def _companion(self, draw: int) -> Draw:
        rng = np.random.default_rng(draw)
        return Draw(int(rng.integers(len(self.memory))), int(rng.integers(2**31)))
