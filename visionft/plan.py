"""What a run would do and cost, measured on a few real images, before it does anything."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import nn

from . import config, norms, tuning
from .log import clock
from .objective import Objective
from .order import Draw
from .pace import total_steps
from .precision import Precision
from .progressive import cost
from .recipe import Recipe

SAMPLED = 16  # images


@dataclass(frozen=True)
class Estimate:
    """What training costs here."""

    precision: Precision
    per_image: float  # seconds
    steps: int | None  # None: by the clock
    seconds: float
    memory: float  # bytes: weights, gradients, moments and activations


def estimate(objective: Objective, data: Any, recipe: Recipe, images: int = SAMPLED) -> Estimate:
    """Time a few steps of so many images on a copy of the objective, frozen as the recipe says, without evaluations."""
    twin = copy.deepcopy(objective)
    groups = tuning.groups(twin, recipe)
    norms.settle(twin, stay=norms.stay(objective, recipe))
    count = min(images, len(data))
    device = torch.device("cpu")
    batch = {key: value.to(device) for key, value in data.collate([data[Draw(i)] for i in range(count)]).items()}
    timed = Precision.choose("auto", twin, lambda n: batch, device)
    precision = (
        timed if recipe.precision == "auto" else Precision.choose(recipe.precision, twin, lambda n: batch, device)
    )
    per_image = timed.measured["bf16" if precision.bf16 else "fp32"] / count
    steps = total_steps(recipe, len(data))
    by_steps = steps * recipe.batch * per_image * cost(recipe.grow) if steps else math.inf
    seconds = min(by_steps, recipe.minutes * 60 if recipe.minutes else math.inf)  # whichever ends it first
    weights = sum(p.numel() for g in groups for p in g["params"])
    fixed = sum(p.numel() for p in twin.parameters()) - weights
    moments = 2 if recipe.optim.name == "adamw" else 1
    live = activations(twin, batch, precision) / count * recipe.batch / recipe.accumulate
    return Estimate(precision, per_image, steps, seconds, 4 * (weights * (2 + moments) + fixed) + live)


def plan(objective: Objective, data: Any, recipe: Recipe, *, trainings: int = 1, shared: bool = False) -> list[str]:
    """Lines for `--dry-run`: the resolved recipe, the layer groups with their rates, steps, time and memory.

    `trainings` of this kind follow each other; where the budget is a time, they may have `shared` it.
    """
    found = estimate(objective, data, recipe)
    seconds = found.seconds * (1 if shared and not found.steps else trainings)
    several = f" for {trainings} trainings, one after the other" if trainings > 1 else ""
    groups = tuning.groups(objective, recipe)
    rows = [
        f"  {name:<72} {rate:>9} {tensors:>5} tensors {n / 1e6:>8.2f} M"
        for name, rate, tensors, n in tuning.describe(objective, groups)
    ]
    speed = f"{1 / found.per_image:.0f} images/s measured here, without evaluations"
    return [
        *yaml.safe_dump(config.plain(recipe), sort_keys=False).splitlines(),
        "",
        "what learns, how fast:",
        *rows,
        "",
        f"start: {objective.backbone.loaded}",
        f"precision: {found.precision}",
        f"steps: {found.steps or 'by the clock'} of {recipe.batch} images, {len(data)} images",
        f"time: about {clock(seconds)}{several} ({speed})",
        f"memory: about {found.memory / 2**20:.0f} MiB for weights, moments and activations, beside the decoded images",
        "nothing was written.",
    ]


def activations(objective: nn.Module, batch: dict[str, Any], precision: Precision) -> float:
    """Bytes that autograd keeps between forward and backward."""
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t), precision.autocast(torch.device("cpu")):
        objective(batch)["loss"].backward()
    return float(sum(kept.values()))
