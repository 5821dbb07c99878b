"""What happens to photos before a network sees them, as tensor operations: cut, painted, scaled as OpenCV does it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from visionft.arrays import Floats, Ints

from .frame import Frame, fitted
from .sight import Sight

SHARP = -0.75  # OpenCV's parameter of bicubic interpolation


class Cut(nn.Module):
    """`Frame.cut` for photos of one size."""

    inside: Tensor | None  # h w 1

    def __init__(self, frame: Frame, size: tuple[int, int]) -> None:
        super().__init__()
        self.top, self.bottom, self.left, self.right = frame.box(*size)
        self.size = self.bottom - self.top, self.right - self.left
        inside = None if frame.inside is None else torch.from_numpy(fitted(frame.inside, *self.size))
        self.register_buffer("inside", None if inside is None else inside[..., None])

    def forward(self, photos: Tensor) -> Tensor:
        """B H W C of uint8 -> B h w C of uint8."""
        part = photos[:, self.top : self.bottom, self.left : self.right]
        if self.inside is None:
            return part
        rows = (part.float() * self.inside).sum(2)  # whole numbers that float32 holds exactly
        mean = rows.double().sum(1) / self.inside.sum()
        return torch.where(self.inside, part, mean.round().to(torch.uint8)[:, None, None])


class Scaled(nn.Module):
    """`Sight.scaled` for images of one size: along either side, every pixel is a sum of a few others."""

    rows: Tensor  # K h, which they are
    columns: Tensor
    rows_weight: Tensor
    columns_weight: Tensor

    def __init__(self, sight: Sight, size: tuple[int, int]) -> None:
        super().__init__()
        tiles = sight.tiles(*size)
        self.same = (tiles.height, tiles.width) == size
        self.halved = size == (2 * tiles.height, 2 * tiles.width)
        taps = areas if sight.scale < 1 else cubic
        for name, old, new in (("rows", size[0], tiles.height), ("columns", size[1], tiles.width)):
            at, weight = taps(old, new)
            self.register_buffer(name, torch.from_numpy(at))
            self.register_buffer(f"{name}_weight", torch.from_numpy(weight).float())

    def forward(self, images: Tensor) -> Tensor:
        """B H W C of uint8 -> B h w C of uint8."""
        if self.same:
            return images
        x = _along(images.float(), 2, self.columns, self.columns_weight[..., None])
        x = _along(x, 1, self.rows, self.rows_weight[..., None, None])
        x = (x + 0.5).floor() if self.halved else x.round()  # OpenCV rounds a half up there, and to even elsewhere
        return x.clamp(0, 255).to(torch.uint8)


def cubic(old: int, new: int) -> tuple[Ints, Floats]:
    """Which of `old` pixels each of `new` ones is a sum of, and their weights, 4 new each; the border is repeated."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    taps = np.floor(at) + np.arange(-1, 3)[:, None]
    d = np.abs(at - taps)
    near = ((SHARP + 2) * d - (SHARP + 3)) * d * d + 1
    far = ((SHARP * d - 5 * SHARP) * d + 8 * SHARP) * d - 4 * SHARP
    return taps.clip(0, old - 1).astype(np.int64), np.where(d <= 1, near, far)


def areas(old: int, new: int) -> tuple[Ints, Floats]:
    """As `cubic`, but a mean over what a new pixel covers, K new each."""
    step = old / new
    start = np.arange(new) * step
    end = np.minimum(start + step, old)
    taps = np.floor(start).astype(np.int64) + np.arange(int(np.ceil(step)) + 1)[:, None]
    covered = (np.minimum(end, taps + 1) - np.maximum(start, taps)).clip(0)
    covered[covered < 1e-3] = 0  # OpenCV leaves slivers out
    return taps.clip(0, old - 1), covered / covered.sum(0)


def _along(x: Tensor, axis: int, taps: Tensor, weights: Tensor) -> Tensor:
    """Sum of pixels along an axis, as taps (K n) and weights (K n, then ones) say."""
    total = torch.zeros(())
    for at, weight in zip(taps, weights, strict=True):
        total = total + x.index_select(axis, at) * weight
    return total
