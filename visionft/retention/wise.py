"""WiSE-FT: the run ends part of the way between the weights it began with and those it learnt (arXiv:2109.01903)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from visionft.averaging import between
from visionft.data.views import Views
from visionft.objective import Objective

from .kept import Kept, Passes


class Wise(Kept):
    """Nothing is added to the loss; head and backbone are left at a share of the way.

    share: of the way from the start to the end
    """

    def __init__(self, task: Objective, images: Views | None = None, *, share: float = 0.5) -> None:
        super().__init__(task)
        self.share, self.start = share, {k: v.detach().clone() for k, v in task.state_dict().items()}

    def penalty(self, batch: Mapping[str, Tensor], passes: Passes) -> Tensor:
        """None."""
        return self.backbone.mean.new_zeros(())  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Go back to the share of the way."""
        end = {k: v.detach().clone() for k, v in self.task.state_dict().items()}
        start = {k: v.to(end[k].device) for k, v in self.start.items()}
        self.task.load_state_dict(between(start, end, self.share))
