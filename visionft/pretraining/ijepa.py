"""I-JEPA: see a part of an image and predict what a teacher would say of other parts, no pixels (arXiv:2301.08243)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.objective import Objective, View, exactly, noise
from visionft.parallel import total, world

from .teacher import Teacher
from .tokens import encode, patchify, pick, plain_vit


class IJEPA(Objective):
    """Prediction of features instead of pixels, from a single view, on timm's plain ViTs.

    Patches are what is compared, so a class token that pools them says little of a collapse: watch `teacher_spread`.

    blocks: squares of patches to predict; fewer in small images, where they would hide more than three quarters
    area: share of the image that each of them covers
    horizon: share of the run that the teacher averages over
    width: features of the predictor
    depth: blocks of the predictor
    heads: attention heads of the predictor
    """

    sees = {"image": View("mae")}
    takes = "plain timm ViTs"
    divides = True
    collapses = False  # a class token, which is watched, narrows while the teacher keeps its spread (measured)
    good_for = "ViTs to fine-tune, where mirrored or recoloured views would be different things"

    def __init__(
        self,
        backbone: Backbone,
        *,
        blocks: int = 4,
        area: float = 0.175,
        horizon: float = 0.3,
        width: int = 192,
        depth: int = 3,
        heads: int = 3,
    ) -> None:
        super().__init__()
        vit = plain_vit(backbone, "ijepa")
        self.backbone = backbone
        self.teacher: Any = Teacher(horizon, backbone=backbone)
        self.blocks, self.area = blocks, area
        self.patch: int = vit.patch_embed.patch_size[0]
        self.enter, self.leave = nn.Linear(vit.embed_dim, width), nn.Linear(width, vit.embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.predictor = nn.Sequential(*[Block(width, heads) for _ in range(depth)], nn.LayerNorm(width))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Smooth L1 to the teacher's features, each normalised, block by block."""
        images = self.backbone.normalise(batch["image"])
        patches = patchify(images, self.patch)  # B N P
        side = math.isqrt(patches.shape[1])
        seen, blocks = split(batch["draw"], side, self.blocks, self.area)  # B K, B M T
        tokens = encode(self.backbone, patches, seen)[:, self.backbone.net.num_prefix_tokens :]
        guess = self.predict(tokens, seen, blocks, side)  # B M T D
        with torch.no_grad():
            net = self.teacher.backbone.net
            known = net.forward_features(images)[:, net.num_prefix_tokens :].float()  # B N D
            known = F.layer_norm(known, known.shape[-1:])
            target = pick(known, blocks.flatten(1)).view_as(guess)
        with exactly(guess):
            return {"loss": F.smooth_l1_loss(guess.float(), target), "teacher_spread": spread(known)}

    def predict(self, context: Tensor, seen: Tensor, blocks: Tensor, side: int) -> Tensor:
        """B K D, B K, B M T -> B M T D: every block by itself, from the same visible patches."""
        count = blocks.shape[1]
        place = build_sincos2d_pos_embed([side, side], len(self.mask_token), device=context.device)  # N W
        known = self.enter(context) + place[seen]  # B K W
        asked = self.mask_token + place[blocks]  # B M T W
        x = torch.cat([known.repeat_interleave(count, 0), asked.flatten(0, 1)], 1)
        guess: Tensor = self.leave(self.predictor(x)[:, seen.shape[1] :]).unflatten(0, (-1, count))
        return guess

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        self.teacher.follow(self, progress)


@torch.no_grad()
def spread(features: Tensor) -> Tensor:
    """B N D -> how far images differ at a place, over all processes; a collapse ends at 0."""
    mean = total(features.mean(0)) / world()
    return (total((features - mean).square().mean(0)) / world()).sqrt().mean()


def split(draw: Tensor, side: int, blocks: int, area: float) -> tuple[Tensor, Tensor]:
    """B -> visible patches B K, and M blocks of T hidden ones B M T; blocks may overlap.

    K is what M blocks apart from each other would leave, so that every image has as many: where they overlap, some
    patches are neither seen nor asked for.
    """
    edge = max(1, min(side - 1, round(side * area**0.5)))
    blocks = max(1, min(blocks, int(0.75 * side**2) // edge**2))
    chance = noise(draw, 2 * blocks + side**2)
    corner = (chance[:, : 2 * blocks].unflatten(1, (2, blocks, 1, 1)) * (side - edge + 1)).long()  # B 2 M 1 1
    step = torch.arange(edge, device=draw.device)
    places = ((corner[:, 0] + step[:, None]) * side + corner[:, 1] + step).flatten(2)  # B M T
    order = chance[:, 2 * blocks :].scatter(1, places.flatten(1), 1.0).argsort(1)  # the hidden ones last
    return order[:, : side**2 - blocks * edge**2], places
