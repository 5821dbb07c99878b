"""Can a place be rebuilt from what surrounds it, as in good parts? Inpainting of features by regression."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.errors import ConfigError

from .foretold import Foretold


class Surroundings(Foretold):
    """The error of rebuilding a patch from those around it, which do not show it (RIAD, Zavrtanik et al. 2021).

    What is hidden are features and not pixels, and ridge regression rebuilds them: with the backbone of a run of `mae`,
    which has learnt to rebuild what is hidden, as with any other.

    gap: places from a patch to those above, below, left and right of it that it is rebuilt from
    ridge: share of the variance of what is around that is added to it
    """

    def __init__(self, *, gap: int = 3, ridge: float = 0.01) -> None:
        if gap < 1:
            raise ConfigError(f"gap={gap} is at least 1: a patch must not be rebuilt from itself")
        super().__init__(ridge=ridge)
        self.gap = gap

    def told(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """B h w D -> what lies around each patch, B h w 4D, the border being repeated; and the patches."""
        h, w, g = *patches.shape[1:3], self.gap
        x = F.pad(patches.movedim(3, 1), (g, g, g, g), mode="replicate")
        corners = ((0, g), (2 * g, g), (g, 0), (g, 2 * g))
        around = [x[:, :, top : top + h, left : left + w] for top, left in corners]
        return torch.cat(around, 1).movedim(1, 3), patches
