"""The batches of a run, in the order that (seed, step, rank) gives them, from a data set to the device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from . import parallel
from .errors import ConfigError
from .order import Draw, Order
from .prefetch import ahead
from .recipe import Recipe

Batch = Mapping[str, Tensor]
PREFETCHED = 2


class Feed:
    """What one process trains on: micro-batches on the device, without end."""

    def __init__(self, data: Any, recipe: Recipe, device: torch.device) -> None:
        self.data, self.recipe, self.device = data, recipe, device
        self.parts = recipe.accumulate  # of each batch
        self._coming: Iterator[Batch] = iter(())

    def begin(self, step: int) -> None:
        """Deal out from the first part of this step on; a GPU has the next ones waiting."""
        batches = self._batches(step)
        self._coming = ahead(batches, PREFETCHED) if self.device.type == "cuda" else batches

    def __next__(self) -> Batch:
        return next(self._coming)

    @property
    def share(self) -> int:
        """Images that this process computes at a time."""
        return self.recipe.batch // self.parts // parallel.world()

    def _batches(self, step: int) -> Iterator[Batch]:
        loader = DataLoader(
            self.data,
            batch_sampler=self._order(step),
            num_workers=self.recipe.workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.recipe.workers > 0,
            collate_fn=getattr(self.data, "collate", None),
            generator=torch.Generator().manual_seed(self.recipe.seed),  # else it draws from ours, once per run
        )
        for batch in loader:
            yield {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def sample(self, images: int) -> Batch:
        """A small real batch, to measure on."""
        return self._collated(self._order(0).of(0)[:images])

    def opening(self, images: int) -> Iterator[Batch]:
        """The run's first batches, part by part: so many images over all processes, or all if there are fewer."""
        parts = math.ceil(min(images, len(self.data)) / (self.share * parallel.world()))
        for draws in itertools.islice(self._order(0), parts):
            yield self._collated(draws)

    def _collated(self, draws: Iterable[Draw]) -> Batch:
        batch = getattr(self.data, "collate", default_collate)([self.data[draw] for draw in draws])
        return {key: value.to(self.device) for key, value in batch.items()}

    def _order(self, step: int) -> Order:
        r, world = self.recipe, parallel.world()
        return Order(
            len(self.data),
            r.batch,
            seed=r.seed,
            parts=self.parts,
            rank=parallel.rank(),
            world=world,
            start=step,
            labels=self._labels(),
        )

    def _labels(self) -> np.ndarray | None:
        if self.recipe.sampler == "natural":
            return None
        labels = getattr(self.data, "columns", {}).get("label")
        if labels is None:
            raise ConfigError("sampler=balanced needs labelled images; leave sampler=natural")
        return labels.numpy()  # type: ignore[no-any-return]
