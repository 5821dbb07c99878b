"""An inspector as one module of tensor operations: photos of one size in, scores, decisions and heat out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionft.arrays import Bools, Floats
from visionft.backbone import Backbone

from .eye import Eye
from .frame import fitted
from .highpass import energies
from .intake import Cut, Scaled
from .panel import TINY, Calm
from .sight import mapped
from .stream import Owner
from .tiles import Tiles

if TYPE_CHECKING:
    from .inspector import Inspector

TILES = 32  # that go through the backbone together: memory for the largest photos, and fewer copies of the backbone


class Graph(nn.Module):
    """What `Inspector.judge` does to photos of one size, in float32; everything that judging takes is inside."""

    held: Tensor  # N, the scores of good parts, held out

    def __init__(self, inspector: Inspector, size: tuple[int, int]) -> None:
        super().__init__()
        panel, self.size = inspector.panel, size
        self.backbone, self.calm, self.weights = panel.backbone, list(panel.calm), list(panel.weights)
        self.cut = Cut(panel.frame, size)
        sights = dict.fromkeys(eye.sight for eye in panel.eyes)
        self.own = [[at for at, eye in enumerate(panel.eyes) if eye.sight == sight] for sight in sights]
        self.looks = nn.ModuleList(
            Look(self.backbone, [panel.eyes[at] for at in own], self.cut.size, panel.frame.inside) for own in self.own
        )
        self.register_buffer("held", torch.tensor(inspector.promise.scores, dtype=torch.float32))
        self.threshold = inspector.promise.threshold

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """B H W C of uint8 -> score, p_value, reject, B each, each eye's score, B E, and heat, B h w.

        Heat is of what the frame leaves of a photo.
        """
        images = self.cut(photos)
        said: dict[int, tuple[Tensor, Tensor]] = {}
        for own, look in zip(self.own, self.looks, strict=True):
            said |= zip(own, look(self.backbone, images), strict=True)
        scores, maps = zip(*(said[at] for at in range(len(said))), strict=True)
        each = torch.stack([_calmed(calm, one) for calm, one in zip(self.calm, scores, strict=True)], 1)
        score = (each * torch.tensor(self.weights)).sum(1)
        as_high = (self.held >= score[:, None]).sum(1)
        p_value = (1 + as_high).float() / (1 + len(self.held))
        return score, p_value, score > self.held.new_tensor(self.threshold), each, self._heat(maps)

    def _heat(self, maps: Sequence[Tensor]) -> Tensor:
        """The weighted sum of the maps of eyes that judge places, on the finest one's grid."""
        all_ = list(zip(maps, self.calm, self.weights, strict=True))
        own = [one for one in all_ if one[0][0].numel() > 1] or all_
        height, width = max((tuple(found.shape[1:]) for found, _, _ in own), key=lambda side: side[0] * side[1])
        share = sum(weight for _, _, weight in own) or 1.0
        terms = (weight / share * _grown(_calmed(calm, found), height, width) for found, calm, weight in own)
        return functools.reduce(torch.add, terms)


class Look(nn.Module):
    """What eyes of one sight make of images of one size."""

    def __init__(self, backbone: Backbone, eyes: Sequence[Eye], size: tuple[int, int], inside: Bools | None) -> None:
        super().__init__()
        self.eyes, self.sight, self.size = eyes, eyes[0].sight, size
        self.scaled, self.tiles = Scaled(self.sight, size), self.sight.tiles(*size)
        blank = torch.zeros(1, 1, *self.tiles.side, backbone.channels, dtype=torch.uint8)
        with torch.no_grad():  # scorers also make now what they keep for later
            shapes = [tuple(found.shape[2:]) for found in self._maps(backbone, blank, 0)]
        self.joins = nn.ModuleList(
            Join(self.tiles, eye.top, shape, inside) for eye, shape in zip(eyes, shapes, strict=True)
        )

    def forward(self, backbone: Backbone, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """B H W C of uint8 -> of each eye a score, B, and a map, B h w."""
        x, (tops, lefts), (height, width) = self.scaled(images), _grid(self.tiles.corners), self.tiles.side
        rows = torch.stack([x[:, top : top + height] for top in tops], 1)
        tiles = torch.stack([rows[:, :, :, left : left + width] for left in lefts], 2).flatten(1, 2)  # B T H W C
        parts = enumerate(tiles.split(TILES, 1))
        maps = zip(*(self._maps(backbone, part, at * TILES) for at, part in parts), strict=True)
        return [join(torch.cat(own, 1)) for join, own in zip(self.joins, maps, strict=True)]

    def _maps(self, backbone: Backbone, tiles: Tensor, first: int) -> list[Tensor]:
        """B T H W C of uint8, T tiles from the first on -> of each eye B T h w."""
        flat = tiles.flatten(0, 1).movedim(-1, 1)
        if self.sight.what == "bands":
            patches = energies(flat)
        else:
            patches = self.sight.pooled(mapped(backbone, flat, self.sight.layers))
        return [self._said(eye, patches.unflatten(0, (-1, tiles.shape[1])), first) for eye in self.eyes]

    def _said(self, eye: Eye, patches: Tensor, first: int) -> Tensor:
        """B T h w D -> B T h w."""
        owners = [Owner(0, self.size, first + at) for at in range(patches.shape[1])]
        own = [eye.scorers.of(owner) for owner in owners]
        if all(part is own[0] for part in own):
            found: Tensor = own[0].score(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
            return found
        return torch.stack([part.score(patches[:, at]) for at, part in enumerate(own)], 1)


class Join(nn.Module):
    """`Eye.joined` for images of one size."""

    shares: Tensor  # T h w, what the places of every tile count
    down: Tensor  # H R*h, which row of the joined map each row of the tiles is
    across: Tensor  # C*w W
    places: Tensor | None  # those that lie in the region, where there is one

    def __init__(self, tiles: Tiles, top: int, shape: tuple[int, ...], inside: Bools | None) -> None:
        super().__init__()
        self.whole = shape == (1, 1)  # judges images, not places
        shares = [_share(tiles, at, shape) for at in range(len(tiles.corners))]
        side, corners = shares[0].shape, [_corner(share) for share in shares]
        own = [share[y:, x:][: shape[0], : shape[1]] for share, (y, x) in zip(shares, corners, strict=True)]
        self.grid = [len(starts) for starts in _grid(tiles.corners)]  # R C
        tops, lefts = [y for y, _ in corners[:: self.grid[1]]], [x for _, x in corners[: self.grid[1]]]
        self.register_buffer("shares", torch.tensor(np.array(own), dtype=torch.float32))
        self.register_buffer("down", _laid(tops, shape[0], side[0]))
        self.register_buffer("across", _laid(lefts, shape[1], side[1]).T)
        places = None if inside is None else torch.from_numpy(np.flatnonzero(fitted(inside, *side)))
        self.register_buffer("places", places)
        self.highest = min(top, shares[0].size if places is None else len(places))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """B T h w -> the score, B, and the map, B H W."""
        if self.whole:
            found = maps.amax(1)
            return found[:, 0, 0], found
        rows = (maps * self.shares).unflatten(1, self.grid).movedim(2, 3)  # B R h C w
        joined = self.down @ (rows.flatten(3, 4) @ self.across).flatten(1, 2)
        values = joined.flatten(1) if self.places is None else joined.flatten(1).index_select(1, self.places)
        return values.topk(self.highest, 1).values.mean(1), joined


def _share(tiles: Tiles, at: int, shape: tuple[int, ...]) -> Floats:
    """What the places of one tile count in the joined map, H W: it is what is joined of this one and nothing else."""
    alone = [np.full(shape, float(at == other)) for other in range(len(tiles.corners))]
    return tiles.joined(alone, tiles.side[0] / shape[0])


def _corner(share: Floats) -> tuple[int, int]:
    rows, columns = np.nonzero(share)
    return int(rows.min()), int(columns.min())


def _grid(corners: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Tops and lefts of tiles that lie in rows and columns."""
    tops, lefts = (list(dict.fromkeys(ends)) for ends in zip(*corners, strict=True))
    return tops, lefts


def _laid(starts: Sequence[int], length: int, side: int) -> Tensor:
    """Parts of a length, laid at these starts: a row for each of `side` places, a column for each of all parts'."""
    at = np.concatenate([start + np.arange(length) for start in starts])
    return torch.eye(side)[:, torch.from_numpy(at)]


def _calmed(calm: Calm, scores: Tensor) -> Tensor:
    found: Tensor = (scores.clamp_min(TINY).log() - calm.mean) / calm.spread
    return found


def _grown(heat: Tensor, height: int, width: int) -> Tensor:
    """B h w -> B H W, interpolated as `where.grown` does it."""
    return F.interpolate(heat[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
