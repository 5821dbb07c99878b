"""Batch norms: which keep what came with the weights, which learn, and whose statistics are measured anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from .feed import Feed
from .folding import Norm
from .objective import Objective
from .precision import inference
from .recipe import Recipe

MEASURED = 512  # images, or all if there are fewer; Wu and Johnson found a thousand to be as good as millions


def stay(objective: Any, recipe: Recipe) -> bool:
    """Whether the backbone's batch norms keep what they are; `auto` says so of those that came with weights."""
    return recipe.batchnorm == "frozen" or (recipe.batchnorm == "auto" and bool(objective.backbone.loaded.loaded))


def settle(model: nn.Module, *, stay: bool = False) -> None:
    """Train mode, except for modules whose every weight is frozen: their batch statistics must not move either.

    With `stay` those of a backbone's batch norms do not, even where their scale and shift learn.
    """
    model.train()
    for module in model.modules():
        if _frozen(module):
            module.eval()
    for norm in of(model.backbone) if stay else ():
        norm.eval()


def of(backbone: Any) -> Iterator[Norm]:
    """A network's batch norms."""
    return (module for module in backbone.modules() if isinstance(module, Norm))


def recalibration(objective: Objective, feed: Feed, recipe: Recipe) -> Callable[[], None]:
    """What `batchnorm=recalibrate` does before weights are judged or kept; nothing for other policies.

    The statistics of the norms that learn become means over the first training images under the weights as they are
    (arXiv:2105.07576): a running mean lags behind weights that move fast, and one of several weights' average belongs
    to none of them (arXiv:1803.05407). Every process must call it.
    """

    @torch.no_grad()
    def measure() -> None:
        backbone, key = objective.backbone, next(iter(objective.sees))
        backbone.eval()
        moving = {norm: norm.momentum for norm in of(backbone) if not _frozen(norm)}
        for norm in moving:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
        with inference(backbone.mean.device):
            for batch in feed.opening(MEASURED) if moving else ():
                images = batch[key]
                backbone(images.flatten(0, 1) if images.ndim == 5 else images)
        for norm, momentum in moving.items():
            norm.momentum = momentum
            norm.eval()

    return measure if recipe.batchnorm == "recalibrate" else lambda: None


def _frozen(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return bool(weights) and not any(p.requires_grad for p in weights)
