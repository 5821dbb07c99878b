"""SSF: scale and shift what a frozen layer gives, channel by channel (arXiv:2210.08823). It merges at no cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .live import Part
from .lora import per_channel


class SSF(Part):
    """y -> scale y + shift behind a Linear, a Conv2d with a bias or a norm; 1 and 0 at first: nothing changes."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        out = layer.weight.shape[0]
        self.scale = nn.Parameter(torch.ones(out, device=layer.weight.device))
        self.shift = nn.Parameter(torch.zeros(out, device=layer.weight.device))

    def weight(self, own: Tensor) -> Tensor:
        """Each output's weights, scaled."""
        return own * self.scale.view(-1, *[1] * (own.ndim - 1))

    def bias(self, own: Tensor | None) -> Tensor | None:
        """Scaled and shifted."""
        return self.shift if own is None else own * self.scale + self.shift

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """Behind the layer, or in a norm's own scale and shift: there they cost nothing."""
        ndim = module.own_weight.ndim
        if ndim == 1:
            return module.own_with(module.weight, module.bias, *given, **more)  # type: ignore[no-any-return]
        y = module.own(*given, **more)
        return y * per_channel(self.scale, ndim) + per_channel(self.shift, ndim)  # type: ignore[no-any-return]
