"""L2-SP: weights are pulled back to where they began, not to zero (arXiv:1802.01483)."""

from __future__ import annotations

from visionft.data.views import Views
from visionft.objective import Objective

from .kept import Anchored


class L2SP(Anchored):
    """weight / 2 * ||w - w0||^2 over the weights of the backbone that learn; the head is free.

    weight: nats of the mean loss per unit of squared distance, summed over weights; the paper tries 1e-3 to 1
    """

    def __init__(self, task: Objective, images: Views | None = None, *, weight: float = 0.1) -> None:
        super().__init__(task)
        self.strength = weight
