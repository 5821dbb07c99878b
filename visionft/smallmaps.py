"""Convolutions of small maps, as matrix products of unfolded windows, where a CPU has matrix units (Intel AMX).

oneDNN's kernels fill the rows of such a unit with pixels of one row of a map: of a map of 2 x 2 pixels, two of sixteen.
A product over the windows of all images fills them. Milliseconds on two such cores, bf16, channels last, torch's kernel
and a product, by (images, channels, side, channels out, kernel, stride):

                               forward       gradient of the image    gradient of the weight
    192, 512,  2, 512, 3, 1    18.3   3.7    18.5   3.2               48.9   3.1
    128, 256,  4, 512, 3, 2     4.2   1.5     4.8   1.4               16.8   1.2
     64, 512,  4, 512, 3, 1     7.1   5.4     7.8   4.0               21.6   4.1
    192, 256,  4, 256, 3, 1     2.2   2.7     2.1   5.2               11.8   4.2
     64, 256,  8, 256, 3, 1     2.1   3.5     2.1   6.5                6.6   4.8
    192, 128,  8, 128, 3, 1     1.4   4.2     1.5   8.4                5.3  10.9
     32,   3, 224, 192, 16, 16  1.9   1.6                             11.7   2.3
    in float32:
    192, 256,  4, 512, 3, 2    19.6   8.4    19.2   6.7               17.3   6.4

The rule is read off such tables. On other processors, where nothing was measured, all is torch's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .convolution import Pair, Ways, outputs

LARGE = 1 << 20  # weights that no cache keeps while torch's kernel takes a small map's pixels one row at a time


def forward(image: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """N C H W -> N O h w: every window times every filter."""
    height, width = outputs(image, weight, stride, padding)
    found = _windows(image, weight, stride, padding) @ _filters(weight).T
    return found.view(len(image), height, width, -1).permute(0, 3, 1, 2)


def weight_gradient(grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Every filter's gradient is the sum of all windows, each times what came back to that filter from it."""
    found = grad.permute(0, 2, 3, 1).flatten(0, 2).T @ _windows(image, weight, stride, padding)
    return found.view(len(weight), *weight.shape[2:], -1).permute(0, 3, 1, 2)


def input_gradient(grad: Tensor, weight: Tensor, image: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Every window's gradient, added up where windows overlap, in float32 at least."""
    (rows, columns), (height, width), (down, across), (top, left) = weight.shape[2:], grad.shape[2:], stride, padding
    each = grad.permute(0, 2, 3, 1).flatten(0, 2) @ _filters(weight)
    each = each.view(len(grad), height, width, rows, columns, -1)
    wide = torch.promote_types(image.dtype, torch.float32)
    size = (len(image), image.shape[2] + 2 * top, image.shape[3] + 2 * left, image.shape[1])
    found = torch.zeros(size, dtype=wide)
    for row in range(rows):
        for column in range(columns):
            reached = found[:, row : row + down * height : down, column : column + across * width : across]
            reached += each[:, :, :, row, column]
    found = found[:, top : top + image.shape[2], left : left + image.shape[3]]
    return found.to(image.dtype).permute(0, 3, 1, 2)


def ways(image: Tensor, weight: Tensor, dtype: torch.dtype, stride: Pair, padding: Pair) -> Ways:
    """What is faster than torch's kernels for a layer of these shapes, in this dtype, on this processor."""
    height, width = outputs(image, weight, stride, padding)
    known = amx() and dtype in (torch.bfloat16, torch.float32)
    possible = min(height, width) > 0  # else it is torch's to refuse
    if not (known and possible and image.is_contiguous(memory_format=torch.channels_last)):
        return Ways()
    half, places = dtype == torch.bfloat16, height * width
    few = places <= 16 and weight.numel() >= LARGE
    tiny = places <= 4 and half
    apart = 1 < weight.shape[2] == stride[0] and 1 < weight.shape[3] == stride[1]  # as patches are embedded
    wide = places <= 64 and 4 * weight.numel() >= LARGE
    of_weight = few or (half and (places <= 16 or wide or apart))
    return Ways(
        forward=forward if few or tiny else None,
        image=input_gradient if few or tiny else None,
        weight=weight_gradient if of_weight else None,
    )


def amx() -> bool:
    """Whether this processor multiplies matrices as such."""
    return torch.cpu._is_amx_tile_supported()


def _windows(image: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """N C H W -> N*h*w, k*k*C: what each filter sees."""
    (rows, columns), (height, width) = weight.shape[2:], outputs(image, weight, stride, padding)
    padded = F.pad(image.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    images, down, across, channels = padded.stride()
    size = (len(image), height, width, rows, columns, image.shape[1])
    steps = (images, down * stride[0], across * stride[1], down, across, channels)
    return padded.as_strided(size, steps).reshape(len(image) * height * width, -1)


def _filters(weight: Tensor) -> Tensor:
    """O C k k -> O, k*k*C: a view where memory is channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
