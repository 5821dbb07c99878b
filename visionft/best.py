"""Early stopping: keep the best weights so far, and say when there is no point in going on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .errors import ConfigError


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
        if self.metric not in metrics:
            raise ConfigError(f"metric={self.metric} is not among what is evaluated: {', '.join(sorted(metrics))}")
        sign = -1 if "loss" in self.metric else 1
        if self.state is None or sign * metrics[self.metric] > sign * self.metrics[self.metric]:
            self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            self.step, self.metrics, self.stale = step, metrics, 0
            return ""
        self.stale += 1
        stop = self.stale >= self.patience
        return f"{self.metric} has not improved since step {self.step}" if stop else ""

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {"step": self.step, "stale": self.stale, "metrics": self.metrics}
