"""Decoded pixels -> augmented views -> batches: the last stop before the loss."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from visionft.objective import View
from visionft.order import Draw

from .batched import Plans, Recorder, possible
from .policies import policy

Item = dict[str, Any]


class Views(Dataset[Item]):
    """A data set of batches' worth: for each image the views an objective asks for.

    `pixels[i]` is H W C uint8. What is drawn for an image depends on (seed, epoch, index) alone, so workers, resuming
    and processes change nothing; the epoch arrives with the index, as a `Draw`. With `batched`, policies that allow it
    only draw here; the pictures are made by the device that a batch is moved to.
    """

    def __init__(
        self,
        pixels: Sequence[np.ndarray],
        views: Mapping[str, View],
        sides: Mapping[str, int],
        *,
        labels: np.ndarray | None = None,
        columns: Mapping[str, Tensor] | None = None,
        channels: int = 3,
        seed: int = 0,
        batched: bool = False,
    ) -> None:
        self.pixels, self.views, self.seed = pixels, views, seed
        self.columns = {} if labels is None else {"label": torch.tensor(labels, dtype=torch.int64)}
        self.columns |= columns or {}
        self.random = Stream()
        self.policies = {
            key: policy(view.policy, sides[key], channels=channels, scale=view.scale) for key, view in views.items()
        }
        for compose in self.policies.values():
            compose.set_random_state(self.random.numbers, self.random.choices)
        self.recorders = {key: Recorder(p) for key, p in self.policies.items() if possible(p)} if batched else {}

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Item:
        draw = self.random.restart(self.seed, getattr(index, "epoch", 0), index)
        image = np.ascontiguousarray(self.pixels[index])
        item: Item = {"draw": draw}
        for key, view in self.views.items():
            if key in self.recorders:
                item[key] = [self.recorders[key](image) for _ in range(view.count or 1)]
                continue
            made = [self.policies[key](image=image)["image"] for _ in range(view.count or 1)]
            item[key] = made[0] if view.count is None else np.stack(made)
        return item | {key: column[index] for key, column in self.columns.items()}

    def collate(self, items: Sequence[Item]) -> dict[str, Any]:
        """Stack items: uint8 `B C H W` or `B V C H W`, laid out channels-last, int64 `draw`, and the columns' rows.

        Batched views are `Plans`, which become such pictures on the device that they are moved to.
        """
        batch: dict[str, Any] = {"draw": torch.tensor([item["draw"] for item in items], dtype=torch.int64)}
        for key, view in self.views.items():
            if key in self.recorders:
                shape = (len(items),) if view.count is None else (len(items), view.count)
                batch[key] = Plans.of([drawn for item in items for drawn in item[key]], shape)
                continue
            batch[key] = torch.from_numpy(np.stack([item[key] for item in items])).movedim(-1, -3)
        return batch | {key: torch.stack([item[key] for item in items]) for key in self.columns}


class Stream:
    """The one stream of random numbers that all transforms of a data set draw from, one after the other.

    albumentations would give every transform a generator of its own and the same seed, so that a mirrored image is
    always also a gray one; a shared stream keeps their choices independent.
    """

    def __init__(self) -> None:
        self.numbers = np.random.Generator(np.random.PCG64(0))
        self.choices = random.Random(0)

    def restart(self, *key: int) -> int:
        """Begin the stream of this key; returns an int64 that names it."""
        sequence = np.random.SeedSequence(key)
        self.numbers.bit_generator.state = np.random.PCG64(sequence).state
        name = int(sequence.generate_state(1, np.uint64)[0]) >> 1
        self.choices.seed(name)
        return name


def batches(data: Views, size: int) -> Any:
    """Every image once, in order, in batches: for evaluation."""
    for at in range(0, len(data), size):
        yield data.collate([data[Draw(i)] for i in range(at, min(at + size, len(data)))])
