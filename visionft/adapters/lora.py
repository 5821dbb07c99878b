"""LoRA: what fine-tuning changes in a weight is of low rank, so learn the two factors (arXiv:2106.09685).

With `dora`, magnitude and direction of a weight's rows learn apart (arXiv:2402.09353).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .live import Part
from .quantised import Quantised
from .thin import beside


class LoRA(Part):
    """W -> W + scale B A, for a Linear or a Conv2d of any stride, padding and groups.

    `lora_A` and `lora_B` hold the factors in the layout of the peft library. B is zero at first: nothing changes.
    """

    def __init__(self, layer: Any, *, rank: int, alpha: float, dropout: float, rslora: bool, dora: bool) -> None:
        super().__init__()
        own: Tensor = layer.weight
        out, into = own.shape[0], own[0].numel()
        rank = min(rank, out, into)
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)  # rsLoRA, arXiv:2312.03732
        self.dense = getattr(layer, "groups", 1) == 1
        self.product = not (dora or dropout) and is_product(layer)
        tail = own.shape[1:]  # of one output: in, or in/groups k k
        self.lora_A = _Factor(torch.empty(rank, *tail, dtype=torch.float32, device=own.device))
        self.lora_B = _Factor(own.new_zeros(out, rank, *[1] * (own.ndim - 2), dtype=torch.float32))
        bound = 1 / math.sqrt(into)  # what kaiming_uniform_ with a = sqrt(5) draws
        nn.init.uniform_(self.lora_A.weight, -bound, bound)
        self.dropout = nn.Dropout(dropout)
        lengths = row_norms(own.detach()).float()
        self.lora_magnitude_vector = _Factor(lengths if own.ndim == 2 else lengths.view(1, -1, 1, 1)) if dora else None

    def weight(self, own: Tensor) -> Tensor:
        """W + scale B A, its rows scaled to the learned magnitudes with `dora`."""
        moved = own + self.change().view_as(own)
        if self.lora_magnitude_vector is None:
            return moved
        rows = self.lora_magnitude_vector.weight.flatten() / row_norms(moved)
        return moved * rows.view(-1, *[1] * (moved.ndim - 1))

    def change(self) -> Tensor:
        """Scale B A, out x (all else)."""
        change: Tensor = self.scale * self.lora_B.weight.flatten(1) @ self.lora_A.weight.flatten(1)
        return change

    def forward(self, module: Any, *given: Any, **more: Any) -> Tensor:
        """Through W and, beside it, through the thin factors: no gradient as large as W is ever computed."""
        (x,) = given
        if self.product and _frozen(module) and not _traced():
            return self.at_once(module, x)
        if self.lora_magnitude_vector is None:
            return module.own(x) + self.beside(module, x)  # type: ignore[no-any-return]
        own: Tensor = module.own_weight
        bias: Tensor | None = module.own_bias
        with torch.no_grad():  # the norm is taken as a constant (section 4.3 of the paper)
            norm = row_norms(own + self.change().view_as(own))
        y: Tensor = module.own_with(own, None, x) + self.beside(module, x)
        rows: Tensor = self.lora_magnitude_vector.weight.flatten() / norm
        y = y * per_channel(rows, own.ndim)
        return y if bias is None else y + per_channel(bias, own.ndim)

    def at_once(self, module: Any, x: Tensor) -> Tensor:
        """The same in one step, where the layer is a product with a frozen matrix; pixels are its rows."""
        factors = self.lora_A.weight.flatten(1), self.lora_B.weight.flatten(1)
        if x.ndim == 4 and self.lora_A.weight.ndim == 4:
            return beside(x.permute(0, 2, 3, 1), module, *factors, self.scale).permute(0, 3, 1, 2)
        return beside(x, module, *factors, self.scale)

    def beside(self, layer: Any, x: Tensor) -> Tensor:
        """What the factors add to W x."""
        side = self.dropout(x)
        if not self.dense:
            whole: Tensor = layer.own_with(self.change().view_as(layer.own_weight), None, side)
            return whole
        thin = layer.own_with(self.lora_A.weight, None, side)
        wide: Tensor = self.scale * _WIDEN[self.lora_B.weight.ndim](thin, self.lora_B.weight)
        return wide


class _Factor(nn.Module):
    """A weight under the name that peft gives it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


def is_product(layer: Any) -> bool:
    """Whether a layer multiplies each position by one matrix: a Linear, or a 1x1 convolution that skips no pixel."""
    if type(layer).forward not in (nn.Linear.forward, nn.Conv2d.forward, Quantised.forward):
        return False
    if isinstance(layer, nn.Linear):
        return True
    shape = layer.kernel_size, layer.stride, layer.groups, layer.padding
    return shape == ((1, 1), (1, 1), 1, (0, 0))


def _frozen(layer: Any) -> bool:
    return not torch.is_grad_enabled() or not any(p.requires_grad for p in layer.parameters(recurse=False))


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def row_norms(weight: Tensor) -> Tensor:
    """Out x ... -> out, the length of each output's weights."""
    lengths: Tensor = weight.flatten(1).norm(dim=1)
    return lengths


def per_channel(values: Tensor, ndim: int) -> Tensor:
    """C -> what broadcasts along the channels that a layer with a weight of so many dimensions gives."""
    return values if ndim == 2 else values.view(-1, 1, 1)


_WIDEN: dict[int, Callable[[Tensor, Tensor], Tensor]] = {2: F.linear, 4: F.conv2d}
