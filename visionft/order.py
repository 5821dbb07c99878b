"""Which images each step sees, and with which random draw: pure functions of (seed, step, rank)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Draw(int):
    """An index into a data set that also knows its epoch, so that augmentation can differ between epochs."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> Draw:
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # an int with one word more
        return int(self), self.epoch


class Order:
    """A batch sampler that never ends: every epoch is a fresh permutation, and step s needs nothing of step s-1.

    `batch` images a step are dealt to `parts` accumulated parts, and each part to `world` processes, so that parts
    and processes together see exactly what one process sees in one batch.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        *,
        seed: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        labels: np.ndarray | None = None,  # N: every class is then drawn as often as every other
    ) -> None:
        self.size, self.batch, self.seed, self.start = size, batch, seed, start
        self.parts, self.rank, self.world, self.labels = parts, rank, world, labels

    def __iter__(self) -> Iterator[list[Draw]]:
        step, share = self.start, self.batch // self.parts // self.world
        while True:
            draws = self.of(step)
            for part in range(self.parts):
                at = part * (self.batch // self.parts) + self.rank * share
                yield draws[at : at + share]
            step += 1

    def of(self, step: int) -> list[Draw]:
        """All images of a step, counted from 0; an epoch's last images and the next one's first may share a step."""
        places = range(step * self.batch, (step + 1) * self.batch)
        draws = {epoch: self._epoch(epoch) for epoch in {p // self.size for p in places}}
        return [Draw(*map(int, draws[p // self.size][p % self.size])) for p in places]

    def _epoch(self, epoch: int) -> np.ndarray:
        if self.labels is not None:
            return balanced(self.labels, self.seed, epoch)
        order = permutation(self.size, self.seed, epoch)
        return np.stack([order, np.full(self.size, epoch)], 1)


def balanced(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """N 2: as many images as there are, classes in equal shares, and how often each was drawn before.

    Slots are dealt to the classes in turn, without end; each class goes through its own images, every time in another
    order. The second column takes the place of the epoch: an image that comes twice is augmented in two ways.
    """
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    slots = epoch * len(labels) + np.arange(len(labels))
    turns = slots // len(members)
    found = np.empty((len(labels), 2), np.int64)
    for k, own in enumerate(members):
        here = slots % len(members) == k
        times = turns[here] // len(own)
        orders = {t: own[permutation(len(own), seed, (t << 20) + k)] for t in np.unique(times).tolist()}
        found[here, 0] = [orders[t][i] for t, i in zip(times.tolist(), (turns[here] % len(own)).tolist(), strict=True)]
        found[here, 1] = times
    shuffled: np.ndarray = found[permutation(len(labels), seed, epoch)]
    return shuffled


def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch."""
    return np.random.default_rng((seed, epoch, 0x0DDE)).permutation(size)


def seed_of(seed: int, step: int, rank: int) -> int:
    """The seed of everything a step draws on the device (dropout, drop path)."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]) >> 1
