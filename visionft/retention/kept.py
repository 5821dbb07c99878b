"""A task with one more term in its loss, which holds the backbone to what it was; all names stay the task's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from visionft.data.views import Views
from visionft.objective import Objective

Passes = list[tuple[Tensor, Tensor]]  # what the backbone saw in the task's loss, and the features it gave
SHARED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


class Kept(Objective):
    """Trains the very modules of `task` under the same names, so that its state dict is the task's.

    What a remedy consults (where the weights began, how much each matters) lies in `aside`: it is no part of the
    state, because it follows from the weights that the run begins with, and a resumed run begins with the same.
    Subclasses name no attribute as a task names its modules and buffers: those are shared.
    """

    task: Objective
    aside: Any  # a module that holds what is only consulted
    moves = True  # whether it needs the network's own weights to learn, which an adapter leaves as they are
    replays = False  # whether it trains on retained images

    def __init__(self, task: Objective) -> None:
        super().__init__()
        vars(self).update({name: vars(task)[name] for name in SHARED})
        vars(self).update(task=task, aside=nn.Module(), sees=task.sees, gentle=task.gentle)
        vars(self).update(divides=task.divides and not self.replays)

    def penalty(self, batch: Mapping[str, Tensor], passes: Passes) -> Tensor:
        """What is added to the task's loss."""
        raise NotImplementedError

    def deal(self, training: Views, memory: Views | None) -> Dataset[Any]:
        """What to train on: the new images, unless a remedy mixes in those of `memory`."""
        return training

    def settle(self) -> None:
        """After training: leave the task where it should be."""

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The task's losses and the penalty, under the remedy's name."""
        with _watched(self.backbone) as passes:
            losses: dict[str, Tensor] = self.task(batch)
        held = self.penalty(batch, passes)
        return losses | {"loss": losses["loss"] + held, "task": losses["loss"], type(self).__name__.lower(): held}

    def predict(self, images: Tensor) -> Tensor:
        """As the task answers."""
        answer: Callable[[Tensor], Tensor] = self.task.predict  # type: ignore[assignment]
        return answer(images)

    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """As the task begins with a probe's answer."""
        begin: Callable[[Tensor, Tensor], None] = self.task.start_from  # type: ignore[assignment]
        begin(weight, bias)

    def after_step(self, progress: float) -> None:
        """As the task does."""
        self.task.after_step(progress)

    def train(self, mode: bool = True) -> Self:
        """Both, and never what lies aside."""
        self.task.training = mode
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.aside._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class Anchored(Kept):
    """strength / 2 * sum of importance * (w - w0)^2 over the weights of the backbone that learn by now."""

    strength: float

    def __init__(self, task: Objective) -> None:
        super().__init__(task)
        self.aside.start = held(self.backbone.net.parameters())

    def penalty(self, batch: Mapping[str, Tensor], passes: Passes) -> Tensor:
        """0 at the start."""
        far = [
            (matters * (w - w0).square()).sum()
            for w, w0, matters in zip(self.backbone.net.parameters(), self.aside.start, self.importance(), strict=True)
            if w.requires_grad
        ]
        total: Tensor = sum(far, start=self.backbone.mean.new_zeros(()))
        return self.strength / 2 * total

    def importance(self) -> Iterable[Tensor | float]:
        """How much each weight matters."""
        return [1.0] * len(self.aside.start)


def held(tensors: Iterable[Tensor]) -> nn.ParameterList:
    """Copies that move with a module from device to device, and never learn."""
    return nn.ParameterList(nn.Parameter(t.detach().clone(), requires_grad=False) for t in tensors)


@contextmanager
def _watched(backbone: nn.Module) -> Iterator[Passes]:
    """Note each pass through a backbone: with mixup, only the task knows which images those were."""
    passes: Passes = []
    handle = backbone.register_forward_hook(lambda module, given, z: passes.append((given[0], z)))
    try:
        yield passes
    finally:
        handle.remove()


def spread(images: Views, count: int) -> Iterator[Tensor]:
    """Up to `count` images, evenly over all of them (sources list class after class), 1 C H W of uint8 each."""
    for at in np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist():
        yield images.collate([images[at]])["image"]
