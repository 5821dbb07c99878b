"""A product with a frozen matrix and, beside it, with two thin ones that learn: LoRA's layer as one step of autograd.

y = x W' + b + scale (x A') B' is one large product, whose result the thin pair is added to in place; the gradient of x
is one large product likewise, and those of A and B are thin. Of the forward pass only x and x A' are kept. Written as
two layers and a sum, the same costs a copy of x, four passes over y, and as many over its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def beside(x: Tensor, layer: Any, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """... in -> ... out, through `layer.own_weight`, `layer.own_bias` (frozen), and the factors A (r in) and B (out r).

    The arithmetic is that of autocast, or of x.
    """
    y: Tensor = _Beside.apply(x.flatten(0, -2), layer, a, b, scale)  # no view leaves it, so y may change in place
    return y.view(*x.shape[:-1], -1)


class _Beside(torch.autograd.Function):
    """The weight is asked for again in the backward pass: one that is kept in codes is never kept decoded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, a: Tensor, b: Tensor, scale: float) -> Tensor:
        kind = arithmetic(x)
        rows = x.to(kind)
        bias = layer.own_bias
        y = F.linear(rows, _matrix(layer, kind), None if bias is None else bias.to(kind))
        narrow = (rows @ a.to(kind).T).mul_(scale)
        y.addmm_(narrow, b.to(kind).T)
        ctx.save_for_backward(rows, narrow, a, b)
        ctx.layer, ctx.kind, ctx.scale, ctx.given = layer, kind, scale, x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, a, b = ctx.saved_tensors
        wide = grad.to(ctx.kind)
        thin = (wide @ b.to(ctx.kind)).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (wide @ _matrix(ctx.layer, ctx.kind)).addmm_(thin, a.to(ctx.kind)).to(ctx.given)
        return grad_x, None, (thin.T @ rows).to(a.dtype), (narrow.T @ wide).T.to(b.dtype), None


def arithmetic(x: Tensor) -> torch.dtype:
    """What autocast would compute a product with x in."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return x.dtype


def _matrix(layer: Any, kind: torch.dtype) -> Tensor:
    weight: Tensor = layer.own_weight.detach().flatten(1).to(kind)
    return weight
