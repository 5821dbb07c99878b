"""A teacher: the slow average of a student, which no gradient reaches."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """Copies of a student's modules that follow them at a distance.

    The distance is a share of the run: over progress dp the copies move by 1 - exp(-dp / horizon), times a cosine that
    ends at nothing. So 500 steps and 500,000 have the same schedule. Batch statistics are averages already and copied.
    """

    done: Tensor

    def __init__(self, horizon: float, **student: nn.Module) -> None:
        super().__init__()
        self.horizon, self.names = horizon, tuple(student)
        for name, module in student.items():
            self.add_module(name, copy.deepcopy(module).requires_grad_(False))
        self.register_buffer("done", torch.zeros(()))  # share of the run, so that resuming knows it

    def like(self, student: nn.Module) -> Teacher:
        """Itself, with batch norms that see the batch where the student's do: averages alone would fall behind."""
        for name in self.names:
            own, followed = (parent.get_submodule(name).modules() for parent in (self, student))
            for slow, fast in zip(own, followed, strict=True):
                slow.training = fast.training
        return self

    @torch.no_grad()
    def follow(self, student: nn.Module, progress: float) -> None:
        """Move towards the modules of the same names in `student`; the run is at `progress` in (0, 1]."""
        share = (1 - math.exp((float(self.done) - progress) / self.horizon)) * (1 + math.cos(math.pi * progress)) / 2
        for name in self.names:
            slow, fast = self.get_submodule(name), student.get_submodule(name)
            torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), share)
            for kept, seen in zip(slow.buffers(), fast.buffers(), strict=True):
                kept.copy_(seen)
        self.done.fill_(progress)

    def rising(self, start: float, end: float, warmup: float) -> float:
        """A number that rises from `start` to `end` over a share `warmup` of the run, and stays there."""
        return start + (end - start) * (min(1.0, float(self.done) / warmup) if warmup else 1.0)
