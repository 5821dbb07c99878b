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

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolution import Pair, Ways, torch_gradients

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
        strips.append(torch_gradients(grad, strip, seen, stride, (0, 0), len(strip), [False, True])[1])
        first += strip.shape[3]
    return torch.cat(strips, dim=3)


def ways(image: Tensor, weight: Tensor, dtype: torch.dtype, stride: Pair, padding: Pair) -> Ways:
    """What is faster than torch's kernels for a depthwise layer of these shapes, in this dtype."""
    by_phases = max(stride) > 1 and dtype != torch.float32
    wide = weight.shape[3] > FAST_WIDTH and (max(stride) == 1 or dtype != torch.float32)
    by_strips = wide and _meet(image.shape[3], weight.shape[3], stride[1], padding[1])
    return Ways(image=input_gradient if by_phases else None, weight=weight_gradient if by_strips else None)


def _meet(width: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether every strip sees a pixel; tiny images leave some wholly in the padding, which is nothing to gain from."""
    out = (width + 2 * padding - kernel) // stride + 1
    narrowest = kernel // -(-kernel // FAST_WIDTH)
    return padding < (out - 1) * stride + narrowest and kernel - narrowest - padding < width
