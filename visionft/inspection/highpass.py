"""What is there besides the smooth part of an image: energies of its finest bands, at its own resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.errors import ConfigError

TINY = 1e-3  # of the squared range of a pixel: energies below it are noise of the file format


def energies(images: Tensor, *, bands: int = 3, stride: int = 8) -> Tensor:
    """B C H W of uint8 -> B h w bands: the logarithm of the energy in each band of a Laplacian pyramid, by place.

    A band holds what is left of the image, at its scale, beside a blurred copy (Burt and Adelson 1983); scales double.
    Each place is the mean over `stride` pixels of the image. Raises ConfigError where the image is too small for that.
    """
    if min(images.shape[-2:]) < stride << (bands - 1):
        raise ConfigError(
            f"{bands} bands at a stride of {stride} need images of at least {stride << (bands - 1)} pixels"
        )
    x = images.float().mean(1, keepdim=True) / 255
    height, width = (side // stride for side in images.shape[-2:])
    found = []
    for _ in range(bands):
        blurred = _blur(x)
        energy = (x - blurred).square()
        found.append((F.adaptive_avg_pool2d(energy, (height, width)) + TINY**2).log())
        x = F.avg_pool2d(blurred, 2)
    return torch.cat(found, 1).movedim(1, -1)


def _blur(x: Tensor) -> Tensor:
    """By the binomial filter 1 4 6 4 1 along either side; the border is mirrored."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="reflect"), row.view(1, 1, 1, 5))
    return F.conv2d(F.pad(x, (0, 0, 2, 2), mode="reflect"), row.view(1, 1, 5, 1))
