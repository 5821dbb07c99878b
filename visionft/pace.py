"""How far a run is, by steps or by the clock, how fast it goes, and how long it will take."""

from __future__ import annotations

import time

from . import parallel
from .errors import ConfigError
from .recipe import Recipe


def total_steps(recipe: Recipe, images: int) -> int | None:
    """Steps that `steps` and `epochs` ask for, the smaller; None when only the clock ends the run."""
    if not images:
        raise ConfigError("there are no images to train on")
    asked = [recipe.steps] if recipe.steps else []
    if recipe.epochs:
        asked.append(max(1, round(recipe.epochs * images / recipe.batch)))
    if not asked and not recipe.minutes:
        raise ConfigError("say how long to train: steps=, epochs= or minutes=")
    return min(asked) if asked else None


class Pace:
    """A clock that also counts the time before an interruption."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        self.total, self.minutes, self.batch = total_steps(recipe, images), recipe.minutes, recipe.batch
        self.began, self.before, self.logged = time.perf_counter(), 0.0, (0, 0.0)

    def start(self, step: int = 0, before: float = 0.0) -> None:
        """Count from now, after this many steps and seconds."""
        self.began, self.before, self.logged = time.perf_counter(), before, (step, before)

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.before + time.perf_counter() - self.began

    def progress(self, step: int) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further; read once a step."""
        shares = [step / self.total] if self.total else []
        if self.minutes:
            shares.append(parallel.agree(self.elapsed / (60 * self.minutes)))
        return min(1.0, max(shares))

    def lap(self, step: int, progress: float) -> dict[str, float]:
        """Speed since the last lap, time spent and time left, for the log."""
        steps, at = self.logged
        now = self.elapsed
        self.logged = (step, now)
        return {
            "images_per_second": (step - steps) * self.batch / max(1e-9, now - at),
            "seconds": now,
            "seconds_left": now * (1 - progress) / max(1e-9, progress),
            "progress": progress,
        }
