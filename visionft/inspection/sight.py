"""How images are looked at: at which scale, in which tiles, and by which layers of a backbone or bands of the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.precision import inference

from .highpass import energies
from .tiles import Tiles


@dataclass(frozen=True)
class Sight:
    """Pixels to patches; nothing is made smaller unless `scale` says so.

    what: layers of the backbone, or the image's own finest bands
    scale: of the image's own pixels
    tile: pixels of a tile's side after scaling; larger images are looked at in overlapping tiles
    overlap: share of a tile's side that the next one sees, too
    layers: places of the feature maps, finest first, -1 the last; the others are brought to the first one's resolution
    pool: patches along either side that are averaged into one
    """

    what: Literal["layers", "bands"] = "layers"
    scale: float = 1.0
    tile: int = 512
    overlap: float = 0.25
    layers: tuple[int, ...] = (-2, -1)
    pool: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # JSON knows lists only
        if not (self.scale > 0 and self.tile > 0 and 0 <= self.overlap <= 0.5 and self.pool % 2 == 1):
            raise ConfigError(f"{self} makes no sense: scale and tile are above 0, overlap at most 0.5, pool is odd")

    @torch.no_grad()
    def patches(self, backbone: Backbone, tiles: Tensor) -> Tensor:
        """B C H W of uint8 -> B h w D."""
        if self.what == "bands":
            return energies(tiles)
        return self.pooled(self.maps(backbone, tiles, self.layers))

    @torch.no_grad()
    def maps(self, backbone: Backbone, tiles: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """B C H W of uint8 -> feature maps, B C h w each, in the arithmetic of inference."""
        with inference(backbone.mean.device):
            return mapped(backbone, tiles, layers)

    def pooled(self, found: Sequence[Tensor]) -> Tensor:
        """Feature maps, B C h w each and the finest first -> B h w D."""
        maps = [m.float() for m in found]
        if self.pool > 1:
            maps = [F.avg_pool2d(m, self.pool, 1, self.pool // 2, count_include_pad=False) for m in maps]
        side = maps[0].shape[-2:]
        maps = [maps[0], *(F.interpolate(m, side, mode="bilinear", align_corners=False) for m in maps[1:])]
        return torch.cat(maps, 1).movedim(1, -1)

    def scaled(self, image: np.ndarray) -> np.ndarray:
        """H W C -> at the scale, by area means when smaller and bicubic when larger."""
        if self.scale == 1:
            return image
        height, width = self._side(*image.shape[:2])
        how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        return cv2.resize(image, (width, height), interpolation=how).reshape(height, width, -1)

    def tiles(self, height: int, width: int) -> Tiles:
        """Where the tiles of an image of this size lie once it is scaled."""
        return Tiles.of(*self._side(height, width), self.tile, self.overlap)

    def cut(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """H W C -> its tiles at the scale."""
        return self.tiles(*image.shape[:2]).cut(self.scaled(image))

    def _side(self, height: int, width: int) -> tuple[int, int]:
        return max(1, round(height * self.scale)), max(1, round(width * self.scale))

    def facts(self) -> dict[str, Any]:
        """Plain JSON values; `Sight(**facts)` reads them."""
        return dataclasses.asdict(self)


def mapped(backbone: Backbone, tiles: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """B C H W of uint8 -> feature maps at these places, B C h w each; tiles that patches do not fill are scaled up.

    A transformer sees whole patches only: the tiles grow by less than one, and its maps lie over all of them.
    """
    images, patch = backbone.normalise(tiles), backbone.patch or 1
    sides = [-(-side // patch) * patch for side in tiles.shape[-2:]]
    if sides != list(tiles.shape[-2:]):
        images = F.interpolate(images, sides, mode="bilinear", align_corners=False)
    return backbone.maps(images, list(layers))
