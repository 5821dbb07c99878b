"""How weights move: the optimizer, the shape of its rate over the run, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .recipe import Optim


def build(groups: list[dict[str, Any]], optim: Optim, device: torch.device) -> torch.optim.Optimizer:
    """Make the optimizer; every group remembers its peak rate."""
    if optim.name == "adamw":
        made: torch.optim.Optimizer = torch.optim.AdamW(groups, fused=device.type in ("cuda", "cpu"))
    elif optim.name == "sgd":
        made = torch.optim.SGD(groups, lr=groups[0]["lr"], momentum=optim.momentum)
    else:
        from lightly.utils.lars import LARS

        made = LARS(groups, lr=groups[0]["lr"], momentum=optim.momentum)
    for group in made.param_groups:
        group["peak"] = group["lr"]
    return made


def set_rate(optimizer: torch.optim.Optimizer, progress: float, optim: Optim, left: float = 1.0) -> None:
    """Give every group its share of its peak rate at this progress in [0, 1]; one-cycle moves momentum, too.

    `left` is what a plateau has left of the rate.
    """
    share = left * share_at(progress, optim)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
        if optim.schedule == "one-cycle":
            momentum = HIGH - (HIGH - LOW) * share  # low where the rate is high
            group |= {"betas": (momentum, group["betas"][1])} if "betas" in group else {"momentum": momentum}


FIRST, HIGH, LOW = 1 / 25, 0.95, 0.85  # of one-cycle (arXiv:1708.07120, as fast.ai runs it)


def share_at(progress: float, optim: Optim) -> float:
    """Share of the peak rate: a rise over the warm-up, then a fall to `final`."""
    if progress < optim.warmup:
        risen = progress / optim.warmup
        return FIRST + (1 - FIRST) * _wave(risen) if optim.schedule == "one-cycle" else risen
    fallen = (progress - optim.warmup) / max(1 - optim.warmup, 1e-9)
    if optim.schedule == "exponential":
        return float(optim.final**fallen)
    shape = {"linear": fallen, "constant": 0.0, "plateau": 0.0}.get(optim.schedule, _wave(fallen))
    return 1 - (1 - optim.final) * shape


def _wave(x: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * x)) / 2


class Average:
    """An exponential average of a model's weights whose horizon is a share of the run, not a number of steps.

    Between two calls the run advances by dp, and the average moves by 1 - exp(-dp / horizon) towards the model; after
    a run of p the start weighs exp(-p / horizon), whatever the number of steps. Buffers are copied.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.horizon, self.progress = horizon, 0.0
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, progress: float) -> None:
        """Move towards the model's weights at this progress in (0, 1]."""
        share = 1 - math.exp((self.progress - progress) / self.horizon)
        self.progress = progress
        learned = {name for name, _ in model.named_parameters()}
        live = model.state_dict()
        torch._foreach_lerp_([self.state[n] for n in learned], [live[n] for n in learned], share)
        for name in live.keys() - learned:
            self.state[name].copy_(live[name])


class swapped:  # noqa: N801  (reads as a statement: with swapped(model, state))
    """Lend a model other weights for the length of a block."""

    def __init__(self, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        self.model, self.state = model, state

    def __enter__(self) -> None:
        if self.state is not None:
            self.own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.model.load_state_dict(self.state)

    def __exit__(self, *_: object) -> None:
        if self.state is not None:
            self.model.load_state_dict(self.own)
