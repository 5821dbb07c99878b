"""`F.conv2d` on a CPU that trains: where torch's kernel for one of a layer's three sums is slow, a faster way to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
Sum = Callable[[Tensor, Tensor, Tensor, Pair, Pair], Tensor]  # of grad, weight, image, stride, padding


@dataclass(frozen=True)
class Ways:
    """What takes the place of torch's kernels in one layer; None leaves a sum to torch."""

    forward: Callable[[Tensor, Tensor, Pair, Pair], Tensor] | None = None  # of image, weight, stride, padding
    image: Sum | None = None
    weight: Sum | None = None


Rule = Callable[[Tensor, Tensor, torch.dtype, Pair, Pair], Ways]  # of image and weight, which will have this dtype


class FasterConv(torch.autograd.Function):
    """The convolution of `F.conv2d`, each of whose sums goes its own way."""

    @staticmethod
    def forward(
        image: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, groups: int, ways: Ways
    ) -> Tensor:
        if ways.forward is None:
            return F.conv2d(image, weight, bias, stride, padding, groups=groups)
        found = ways.forward(image, weight, stride, padding)
        return found if bias is None else found + bias[:, None, None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, weight, _, ctx.stride, ctx.padding, ctx.groups, ctx.ways = inputs
        ctx.save_for_backward(image, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        wants_image, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        by_image, by_weight = ctx.ways.image if wants_image else None, ctx.ways.weight if wants_weight else None
        channels_last = image.is_contiguous(memory_format=torch.channels_last)
        grad = grads[0].contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        at_hand = (grad, weight, image, ctx.stride, ctx.padding)
        with torch.autocast("cpu", enabled=False):  # as torch's own backward: in the dtype that the forward had
            mask = [wants_image and not by_image, wants_weight and not by_weight]
            image_grad, weight_grad = torch_gradients(*at_hand, ctx.groups, mask) if any(mask) else (None, None)
            image_grad = by_image(*at_hand) if by_image else image_grad
            weight_grad = by_weight(*at_hand) if by_weight else weight_grad
        return image_grad, weight_grad, grad.sum(dim=(0, 2, 3)) if wants_bias else None, None, None, None, None


def redirected(depthwise: Rule, dense: Rule) -> Callable[..., Tensor]:
    """`F.conv2d` that trains on a CPU by these rules: one for depthwise layers, one for those without groups."""

    def conv2d(
        input: Tensor,  # the names are those of F.conv2d, whose callers may use them
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str) or not (_trains_on_cpu(input, weight) and _plain(input, weight, dilation, groups)):
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        kind, steps, edges = _kind(input), pair(stride), pair(padding)
        rule = dense if groups == 1 else depthwise
        ways = rule(input, weight, kind, steps, edges) if kind == _kind(weight) else Ways()
        if ways == Ways():  # torch casts the weights itself, and once for all calls
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        offset = None if bias is None else bias.to(_kind(bias))
        result: Tensor = FasterConv.apply(input.to(kind), weight.to(kind), offset, steps, edges, groups, ways)
        return result

    return conv2d


def torch_gradients(
    grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair, groups: int, mask: Sequence[bool]
) -> tuple[Any, Any]:
    """Those of the image and of the weight, by torch's kernels, as far as the mask asks for them."""
    image_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, image, weight, None, stride, padding, (1, 1), False, (0, 0), groups, [*mask, False]
    )
    return image_grad, weight_grad


def outputs(image: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Pair:
    """Height and width of what comes out."""
    sides = zip(image.shape[2:], weight.shape[2:], stride, padding, strict=True)
    height, width = ((side + 2 * edge - kernel) // step + 1 for side, kernel, step, edge in sides)
    return height, width


def pair(value: int | Sequence[int]) -> Pair:
    """One number for both sides, or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _trains_on_cpu(image: Any, weight: Tensor) -> bool:
    tensor = isinstance(image, Tensor)  # and no symbol of torch.fx
    return tensor and image.device.type == "cpu" and (image.requires_grad or weight.requires_grad)


def _plain(image: Tensor, weight: Tensor, dilation: int | Sequence[int], groups: int) -> bool:
    """Whether a layer is one that a rule knows of."""
    kind = groups == 1 or groups == image.shape[-3] == weight.shape[0]
    return kind and image.ndim == 4 and pair(dilation) == (1, 1)


def _kind(tensor: Tensor) -> torch.dtype:
    """What autocast makes of it."""
    if torch.is_autocast_enabled("cpu") and tensor.dtype != torch.float64:  # float64 is left alone by autocast, too
        return torch.get_autocast_dtype("cpu")
    return tensor.dtype
