"""Bottleneck adapters: a narrow detour around each MLP of a transformer, or behind each block of a convolutional net.

Parallel to the MLP as in AdaptFormer (arXiv:2205.13535); behind the block, 1x1, as residual adapters
(arXiv:1705.08045).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .live import Part


class Bottleneck(Part):
    """x -> module(x) + scale up(relu(down(x))); `up` is zero at first: nothing changes.

    `channels` are those of the module's input, or of its output for a detour behind it (`behind`); `spatial` says that
    they come before the places (B C h w).
    """

    merges = False

    def __init__(self, channels: int, width: int, *, scale: float, spatial: bool, behind: bool) -> None:
        super().__init__()
        make: Callable[[int, int], Any] = _pointwise if spatial else nn.Linear
        self.down, self.up = make(channels, width), make(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.scale, self.behind = scale, behind

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """The module's answer and the detour's."""
        y: Tensor = module.own(*given, **more)
        return y + self.scale * self.up(F.relu(self.down(y if self.behind else given[0])))  # type: ignore[no-any-return]


def _pointwise(into: int, out: int) -> nn.Module:
    return nn.Conv2d(into, out, 1)
