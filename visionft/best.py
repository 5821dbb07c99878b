"""What evaluations decide: which weights are kept, when the rate falls, when there is no point in going on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .errors import ConfigError
from .recipe import Recipe


def falls(metric: str) -> bool:
    """Whether lower is better: `loss` in the name says so, but not in the column that comes before a slash."""
    return "loss" in metric.rpartition("/")[2]


@dataclass
class Best:
    """The best evaluation of a run by one metric; names with 'loss' in them are better when lower."""

    metric: str
    patience: int  # evaluations without improvement before stopping; 0 watches nothing
    step: int = 0
    stale: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] | None = None

    def see(self, step: int, metrics: dict[str, float], model: nn.Module) -> str:
        """Compare an evaluation with the best before; returns why to stop, or nothing."""
        if not self.patience:
            self.step, self.metrics = step, metrics
            return ""
        if self.state is None or score(self.metric, metrics) > score(self.metric, self.metrics):
            self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            self.step, self.metrics, self.stale = step, metrics, 0
            return ""
        self.stale += 1
        stop = self.stale >= self.patience
        return f"{self.metric} has not improved since step {self.step}" if stop else ""

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {"step": self.step, "stale": self.stale, "metrics": self.metrics}


@dataclass
class Plateau:
    """The share of the rate that is left: it falls whenever a metric has not improved for some evaluations.

    torch's ReduceLROnPlateau with threshold 0, patience `plateau - 1` and min_lr `final` times the peak rate.
    """

    recipe: Recipe
    share: float = 1.0
    stale: int = 0  # evaluations since it improved, or since the rate fell
    best: float | None = None  # score

    @property
    def watches(self) -> bool:
        """Whether this run's rate waits for a plateau at all."""
        return self.recipe.optim.schedule == "plateau"

    def see(self, metrics: dict[str, float]) -> None:
        """Compare an evaluation with the best before."""
        if not self.watches:
            return
        now, optim = score(self.recipe.metric, metrics), self.recipe.optim
        if self.best is None or now > self.best:
            self.best, self.stale = now, 0
            return
        self.stale += 1
        if self.stale >= optim.plateau:
            self.share, self.stale = max(optim.final, self.share * optim.factor), 0

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"share": self.share, "stale": self.stale, "best": self.best}


def score(metric: str, metrics: dict[str, float]) -> float:
    """The metric, turned so that higher is better. Raises ConfigError when it was not measured."""
    if metric not in metrics:
        raise ConfigError(f"metric={metric} is not among what is evaluated: {', '.join(sorted(metrics))}")
    return -metrics[metric] if falls(metric) else metrics[metric]
