"""Which learning rate? A copy trains while the rate rises from tiny to huge, and the loss tells (arXiv:1506.01186).

The loss falls between two rates: one at which learning begins, one from which on it hurts. The suggestion lies two
thirds of the way down this valley, in logarithms of the rate: fast.ai's rule of the same name. It begins where a tenth
of the fall is made; a fall of less than three standard deviations of the losses is none. What starts well, as from a
probe's head, has no valley: then the suggestion is a tenth of the rate from which on the loss rises.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from . import tuning
from .errors import DivergedError
from .fitted import Metrics, Stop
from .objective import Objective
from .optim import share_at
from .recipe import Recipe
from .train import fit

Curve = npt.NDArray[np.float64]
WIDTH = 3.0  # steps, of the Gaussian that smooths the losses
MEMORY = 0.8  # of the running mean that says when to stop
BEGUN, DOWN = 0.1, 2 / 3  # of the fall; of the way down
BELOW, SURE = 0.1, 3.0  # of the rate that hurts; standard deviations of the losses


@dataclass(frozen=True)
class Sweep:
    """Losses by rate, as far as they were finite and sane."""

    rates: Curve  # `optim.lr`; other groups had their share of it
    losses: Curve
    smooth: Curve
    suggestion: float | None = None  # none where the loss neither fell nor rose
    steepest: float | None = None  # the rate at which it fell fastest, if it did

    @property
    def words(self) -> str:
        """What to do."""
        tried = f"{self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        if self.suggestion is None:
            return f"The loss tells nothing from {tried}: try more steps, a larger batch or another range of rates."
        if self.steepest is None:
            rises = f"it rises from {self.suggestion / BELOW:.1e} on"
            return (
                f"The loss falls nowhere from {tried}, and {rises}: optim.lr={self.suggestion:.1e} is a tenth of that."
            )
        found = f"optim.lr={self.suggestion:.1e} is two thirds down the valley of the loss"
        return f"{found}; it falls fastest at {self.steepest:.1e} and is lowest at {self.lowest:.1e}."

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss was lowest."""
        return float(self.rates[self.smooth.argmin()])


def sweep(
    objective: Objective, data: Any, recipe: Recipe, *, low: float = 1e-6, high: float = 1.0, steps: int = 100
) -> Sweep:
    """Train a copy for some steps of the recipe's, at rates from `low` to `high`; ends early once the loss explodes.

    Anything that `fit` trains will do. The objective stays as it is.
    """
    told = _told(objective, recipe, low, high, steps)
    watch = _Watch()
    with contextlib.suppress(DivergedError):
        fit(copy.deepcopy(objective), data, told, evaluate=watch, log=watch.hear)
    losses = np.array(watch.losses)
    rates = [low * share_at((at + 0.5) / steps, told.optim) for at in range(len(losses))]
    return judged(np.array(rates), losses)


def judged(rates: Curve, losses: Curve) -> Sweep:
    """Find the valley in losses by rising rates, N each."""
    if len(losses) < 3:
        return Sweep(rates, losses, losses)
    most = ceiling(losses)
    smooth = gaussian_filter1d(np.minimum(losses, most), WIDTH, mode="nearest")
    bottom = int(smooth.argmin())
    before = smooth[: bottom + 1]
    scatter = 1.5 * float(np.median(np.abs(losses - smooth)[losses < most]))
    unsure = max(SURE * scatter, 1e-9 * abs(smooth[bottom]))
    fall = float(before.max() - smooth[bottom])
    if bottom < 2 or fall <= unsure:
        return Sweep(rates, losses, smooth, _below(rates, smooth, unsure))
    begun = int(np.flatnonzero(before >= before.max() - BEGUN * fall)[-1])
    steepest = float(rates[np.gradient(before).argmin()])
    suggestion = rates[begun] ** (1 - DOWN) * rates[bottom] ** DOWN
    return Sweep(rates, losses, smooth, float(suggestion), steepest)


def _below(rates: Curve, smooth: Curve, unsure: float) -> float | None:
    """A tenth of the rate from which on the loss lies above where it began, if there is one beyond the beginning."""
    first = len(rates) // 4
    last = int(np.flatnonzero(smooth <= float(np.mean(smooth[:first])) + unsure)[-1])
    return BELOW * float(rates[last + 1]) if first <= last < len(rates) - 1 else None


def ceiling(losses: Sequence[float] | Curve) -> float:
    """Above this a loss has exploded: as far above the first ones as they are deep, or as it has fallen since."""
    first = float(np.mean(losses[:5]))
    return first + max(abs(first), first - float(np.min(losses)))


class _Watch:
    """Hears the losses; where the loop evaluates, it ends a sweep that has gone too far."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.mean = math.nan

    def hear(self, step: int, metrics: Metrics) -> None:
        if "loss" in metrics:
            now = metrics["loss"]
            self.mean = now if math.isnan(self.mean) else MEMORY * self.mean + (1 - MEMORY) * now
            self.losses.append(now)

    def __call__(self, model: Any) -> Metrics:
        if self.mean > ceiling(self.losses):
            raise Stop("the loss has exploded")
        return {}


def _told(objective: Objective, recipe: Recipe, low: float, high: float, steps: int) -> Recipe:
    """The recipe with rising rates; what would begin to learn later learns at once."""
    optim = replace(recipe.optim, lr=low, schedule="exponential", warmup=0.0, final=high / low)
    rules = {pattern: tuning.Rule.of(pattern, rate) for pattern, rate in tuning.table(objective, recipe.tune).items()}
    later = any(rule.begin for rule in rules.values())
    return replace(
        recipe, optim=optim, steps=steps, epochs=None, minutes=None, log_every=1, eval_every=1, patience=0, ema=0.0,
        grow=1.0, tune={pattern: rule.rate for pattern, rule in rules.items()} if later else recipe.tune,
    )  # fmt: skip
