"""Patches of many images as several sights see them: decoding, tiling and the backbone's work are done once for all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionft.backbone import Backbone
from visionft.features import resting

from .sight import Sight

BATCH = 8  # tiles that go through a backbone together: more are slower on a CPU's caches
Patches = dict[Sight, Tensor]  # B h w D of each sight


class Owner(NamedTuple):
    """The image that a tile is of, and which of its tiles that is."""

    at: int  # among the images
    size: tuple[int, int]  # H, W
    tile: int = 0


def stream(
    sights: Sequence[Sight], backbone: Backbone, images: Sequence[np.ndarray]
) -> Iterator[tuple[Patches, list[Owner]]]:
    """Patches of all tiles of images, H W C each, as many at once as a batch takes of one size, and whose they are.

    Sights of one scale and tiling share an image's tiles and one pass through the backbone. The tiles of an image come
    in their order; images of other sizes may overtake each other.
    """
    groups: dict[Hashable, list[Sight]] = {}
    for sight in dict.fromkeys(sights):
        groups.setdefault(_tiled(sight), []).append(sight)
    for group in groups.values():
        held: dict[tuple[int, ...], list[tuple[np.ndarray, Owner]]] = {}
        with torch.no_grad(), resting(backbone):  # in full precision: distances need all digits
            for at, image in enumerate(images):
                for number, tile in enumerate(group[0].cut(image)):
                    waiting = held.setdefault(tile.shape, [])
                    waiting.append((tile, Owner(at, (image.shape[0], image.shape[1]), number)))
                    if len(waiting) == BATCH:
                        yield _seen(group, backbone, held.pop(tile.shape))
            for waiting in held.values():
                yield _seen(group, backbone, waiting)


def _tiled(sight: Sight) -> Hashable:
    """Equal for sights that can share a pass: they count layers from the same end."""
    ends = {layer < 0 for layer in sight.layers}
    return sight.what, sight.scale, sight.tile, sight.overlap, sight.layers if len(ends) > 1 else ends == {True}


def _seen(
    sights: Sequence[Sight], backbone: Backbone, waiting: Sequence[tuple[np.ndarray, Owner]]
) -> tuple[Patches, list[Owner]]:
    tiles, owners = zip(*waiting, strict=True)
    batch = torch.from_numpy(np.stack(tiles)).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    if sights[0].what == "bands":
        return {sight: sight.patches(backbone, batch) for sight in sights}, list(owners)
    layers = sorted({layer for sight in sights for layer in sight.layers})
    maps = dict(zip(layers, sights[0].maps(backbone, batch, layers), strict=True))
    return {sight: sight.pooled([maps[layer] for layer in sight.layers]) for sight in sights}, list(owners)
