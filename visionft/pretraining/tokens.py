"""Tokens of a plain timm ViT: encoded from the visible patches alone, or from all places with some patches hidden."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.objective import noise


def plain_vit(backbone: Backbone, objective: str) -> Any:
    """The backbone's network, if its patches are places of one sequence; else ConfigError names what takes it."""
    net = backbone.net
    if not isinstance(net, VisionTransformer) or net.pos_embed is None:
        raise ConfigError(f"objective {objective} needs a plain timm ViT, not {backbone.name}; simmim takes any model")
    return net


def encode(backbone: Backbone, patches: Tensor, seen: Tensor) -> Tensor:
    """B N P, B K -> B prefix+K D: embed and encode the visible patches alone, which saves the time of the others."""
    vit = backbone.net
    count, kernel = patches.shape[1], vit.patch_embed.proj
    grid = (math.isqrt(count), -1) if vit.dynamic_img_size else (count,)
    frame = vit._pos_embed(kernel.weight.new_zeros(1, count, len(kernel.weight)).unflatten(1, grid))  # 1 prefix+N D
    prefix, position = frame.split([frame.shape[1] - count, count], 1)

    x = vit.patch_embed.norm(F.linear(shown(backbone, patches, seen), kernel.weight.flatten(1), kernel.bias))
    x = x + pick(position, seen)
    x = torch.cat([prefix.expand(len(x), -1, -1).to(x.dtype), x], 1)
    x = vit.norm(vit.blocks(vit.norm_pre(x)))
    return x + unused(vit, x)  # type: ignore[no-any-return]


@torch.no_grad()
def begin(vit: Any) -> None:
    """Weights as MAE begins with them (arXiv:2111.06377): Xavier, and positions that say where they are.

    timm's own begin so small that for the first hundreds of steps attention hardly tells one place from another. The
    kernel, of any memory format, is drawn as the one product by which patches are embedded.
    """
    spread(vit)
    kernel = vit.patch_embed.proj.weight
    kernel.copy_(nn.init.xavier_uniform_(kernel.new_empty(len(kernel), kernel[0].numel())).view(kernel.shape))
    places = where(vit.patch_embed.grid_size, vit.embed_dim)
    vit.pos_embed[:, -len(places) :] = places


def spread(module: nn.Module) -> None:
    """Draw all products' weights as Xavier would."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)


def where(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines that tell the places of a grid apart, N D. ConfigError for a width that 4 does not divide."""
    if width % 4:
        raise ConfigError(f"width={width} cannot hold sines and cosines of two axes; take a multiple of 4")
    return build_sincos2d_pos_embed([*grid], width)  # type: ignore[no-any-return]


def encode_hidden(vit: Any, images: Tensor, hidden: Tensor, mask_token: Tensor) -> Tensor:
    """B C H W, B N bool, D -> B prefix+N D: encode all places, where hidden patches are no more than a place."""
    x = vit.patch_embed(images)  # B N D, or B h w D
    x = torch.where(hidden.view(*x.shape[:-1], 1), mask_token.to(x.dtype), x)
    return vit.norm(vit.blocks(vit.norm_pre(vit._pos_embed(x))))  # type: ignore[no-any-return]


def hide(draw: Tensor, patches: int) -> Tensor:
    """B -> B 2 N: a tenth to a half of the patches of one of an image's two views, neighbours rather together."""
    chance = noise(draw, 2 + patches)
    field = chance[:, 2:].unflatten(1, (math.isqrt(patches), -1))  # B h w
    smooth = F.avg_pool2d(F.pad(field, (1, 1, 1, 1), "circular"), 3, 1).flatten(1)
    share = 0.1 + 0.4 * chance[:, :1]
    chosen = smooth.argsort(1).argsort(1) < (share * patches).round().clamp(1, patches - 1)
    first = chance[:, 1:2] < 0.5
    return torch.stack([chosen & first, chosen & ~first], 1)


def unused(net: Any, last: Tensor) -> Tensor:
    """Zero, with a gradient of zero for what only pooled features pass through: several processes expect one."""
    return 0 * net.forward_head(last).sum()  # type: ignore[no-any-return]


def patchify(images: Tensor, size: int) -> Tensor:
    """B C H W -> B N C*size*size, in the order of a convolution's weights."""
    grid: Tensor = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # B C h p w p
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, height: int, size: int) -> Tensor:
    """B N C*size*size -> B C H W, the way back from `patchify`."""
    grid: Tensor = patches.unflatten(2, (-1, size, size)).unflatten(1, (height // size, -1))  # B h w C p p
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def pick(tokens: Tensor, places: Tensor) -> Tensor:
    """B N D, B K -> B K D, the tokens at these places; 1 N D are those of every image."""
    first = torch.arange(len(places), device=places.device)[:, None] * tokens.shape[1]
    rows = places if len(tokens) == 1 else places + first
    chosen: Tensor = tokens.flatten(0, 1).index_select(0, rows.flatten())  # whole rows: gather is slow
    return chosen.view(*places.shape, -1)


def shown(backbone: Backbone, patches: Tensor, places: Tensor) -> Tensor:
    """B N P, B K -> B K P: patches of pixels as they were loaded, normalised where a network is to see them."""
    chosen = pick(patches, places)
    pixels = chosen.view(-1, backbone.channels, chosen.shape[-1] // backbone.channels, 1)  # each a small image
    return backbone.normalise(pixels).view(chosen.shape)
