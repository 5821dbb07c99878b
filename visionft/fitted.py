"""How a training run went, and the request to end one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Metrics = dict[str, float]


class Stop(Exception):  # noqa: N818  (a request, not an error)
    """Raised by `evaluate` to end the run here, in order: what was learned so far is kept."""

    def __init__(self, reason: str, metrics: Metrics | None = None) -> None:
        super().__init__(reason)
        self.metrics = metrics or {}


@dataclass
class Fitted:
    """How a run went."""

    steps: int
    seconds: float
    stopped: str  # why, when it ended before its time
    best_step: int  # the step whose weights were kept
    precision: str
    lr: float  # the peak
    metrics: Metrics = field(default_factory=dict)  # of the weights that were kept
    accumulate: int = 1  # parts that a batch was computed in at the end: more than asked for if memory ran out
    last: dict[str, Tensor] | None = None  # the weights of the last step, where those of the best were kept

    def facts(self) -> dict[str, Any]:
        """Everything but weights, as plain JSON values."""
        return {name: value for name, value in vars(self).items() if name != "last"}
