"""Depthwise convolutions whose gradients avoid oneDNN's slow kernels.

oneDNN's forward kernels are fast at every shape; two of its backward kernels are not. Both gradients can be asked for
in pieces that are fast and add up to the same numbers. Milliseconds on two AVX512-BF16 cores, bf16, channels last,
batch 32, by (channels, size, kernel, stride):

    gradient of the input      torch  phases        gradient of the weight     torch  strips
    96, 64, 3, 2               104    3.9           240, 16, 5, 1              20     1.3
    144, 32, 5, 2               85    1.4           672, 8, 5, 1               18     0.9
    240, 16, 3, 2               59    0.6           1152, 4, 5, 1              17     0.9
    96, 16, 5, 2                24    0.5           192, 16, 7, 1              15     1.7

The rule is read off such tables and knows only shape and dtype: input gradients of strided layers go by phases, weight
gradients of kernels wider than three by strips (in float32, too: 1.5 to 3 times as fast), and all else is torch's own,
which includes strided float32: there torch does well. Whole layers and networks: benchmarks/results/depthwise.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

FAST_WIDTH = 3  # the widest kernel whose weight gradient oneDNN does not hand to its reference loop


def input_gradient(grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Compute the input's gradient by phases: one small forward convolution per residue of the position by the stride.

    An input row i meets the filter row k where i + padding = stride * o + k, so rows of one residue r meet only the
    filter rows r, r + stride, ..., and their gradient is the plain full convolution of `grad` with that thinned filter.
    """
    result = torch.empty_like(image)
    for row in range(stride[0]):
        for column in range(stride[1]):
            top, left = (row - padding[0]) % stride[0], (column - padding[1]) % stride[1]
            target = result[:, :, top :: stride[0], left :: stride[1]]
            taps = weight[:, :, row :: stride[0], column :: stride[1]].flip(2, 3)
            if taps.numel() == 0:  # a stride longer than the filter steps over these pixels
                target.zero_()
                continue
            full = F.conv2d(grad, taps, padding=(taps.shape[2] - 1, taps.shape[3] - 1), groups=weight.shape[0])
            full = full[:, :, (top + padding[0]) // stride[0] :, (left + padding[1]) // stride[1] :]
            height, width = min(full.shape[2], target.shape[2]), min(full.shape[3], target.shape[3])
            if (height, width) != target.shape[2:]:  # no window reaches the last pixels
                target.zero_()
            target[:, :, :height, :width] = full[:, :, :height, :width]
    return result


def weight_gradient(grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Compute the filter's gradient by vertical strips of at most three columns, each of a narrower convolution."""
    strips, first = [], 0
    height = (grad.shape[2] - 1) * stride[0] + weight.shape[2]  # of the pixels that all windows together cover
    bottom = height - padding[0] - image.shape[2]
    for strip in weight.tensor_split(-(-weight.shape[3] // FAST_WIDTH), dim=3):
        left = padding[1] - first
        right = (grad.shape[3] - 1) * stride[1] + strip.shape[3] - left - image.shape[3]
        seen = F.pad(image, (left, right, padding[0], bottom))  # negative padding crops
        strips.append(_torch_gradients(grad, strip, seen, stride, (0, 0), [False, True])[1])
        first += strip.shape[3]
    return torch.cat(strips, dim=3)


class DepthwiseConv(torch.autograd.Function):
    """The depthwise convolution of `F.conv2d`, with the faster of two equal gradients for each shape."""

    @staticmethod
    def forward(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        return F.conv2d(image, weight, bias, stride, padding, groups=weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, weight, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(image, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        wants_image, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        by_phases = wants_image and _by_phases(image.dtype, ctx.stride)
        out, kernel, width = (side.shape[3] for side in (grads[0], weight, image))
        meet = _meet(out, kernel, width, ctx.stride[1], ctx.padding[1])
        by_strips = wants_weight and meet and _by_strips(image.dtype, weight, ctx.stride)
        channels_last = image.is_contiguous(memory_format=torch.channels_last)
        grad = grads[0].contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        at_hand = (grad, weight, image, ctx.stride, ctx.padding)
        with torch.autocast("cpu", enabled=False):  # as torch's own backward: in the dtype that the forward had
            image_grad, weight_grad = _torch_gradients(
                *at_hand, [wants_image and not by_phases, wants_weight and not by_strips]
            )
            image_grad = input_gradient(*at_hand) if by_phases else image_grad
            weight_grad = weight_gradient(*at_hand) if by_strips else weight_grad
        return image_grad, weight_grad, grad.sum(dim=(0, 2, 3)) if wants_bias else None, None, None


def conv2d(
    input: Tensor,  # the names are those of F.conv2d, whose callers may use them
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d` that avoids slow gradients of depthwise layers on the CPU."""
    if groups == 1 or isinstance(padding, str) or not _trains_on_cpu(input, weight):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    depthwise = groups == input.shape[-3] == weight.shape[0] and input.ndim == 4 and _pair(dilation) == (1, 1)
    image, filters, steps = _autocast(input), _autocast(weight), _pair(stride)
    slow = _by_phases(image.dtype, steps) or _by_strips(image.dtype, filters, steps)
    if not (depthwise and slow and image.dtype == filters.dtype):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    offset = None if bias is None else _autocast(bias)
    result: Tensor = DepthwiseConv.apply(image, filters, offset, steps, _pair(padding))
    return result


def _torch_gradients(
    grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair, mask: list[bool]
) -> tuple[Any, Any]:
    image_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, image, weight, None, stride, padding, (1, 1), False, (0, 0), weight.shape[0], [*mask, False]
    )
    return image_grad, weight_grad


def _meet(out: int, kernel: int, width: int, stride: int, padding: int) -> bool:
    """Whether every strip sees a pixel; tiny images leave some wholly in the padding, which is nothing to gain from."""
    narrowest = kernel // -(-kernel // FAST_WIDTH)
    return padding < (out - 1) * stride + narrowest and kernel - narrowest - padding < width


def _by_phases(dtype: torch.dtype, stride: Pair) -> bool:
    return max(stride) > 1 and dtype != torch.float32


def _by_strips(dtype: torch.dtype, weight: Tensor, stride: Pair) -> bool:
    return weight.shape[3] > FAST_WIDTH and (max(stride) == 1 or dtype != torch.float32)


def _trains_on_cpu(image: Any, weight: Tensor) -> bool:
    tensor = isinstance(image, Tensor)  # and no symbol of torch.fx
    return tensor and image.device.type == "cpu" and (image.requires_grad or weight.requires_grad)


def _autocast(tensor: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu") and tensor.dtype != torch.float64:  # float64 is left alone by autocast, too
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
