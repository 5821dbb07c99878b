"""Where a network looks: the attention of its class token, or what resembles the pooled feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from visionft.backbone import Backbone

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def attention(backbone: Backbone, images: Tensor) -> Tensor | None:
    """B C H W -> B heads h w, from the class token to the patches in the last block; None where there is no such."""
    vit: Any = backbone.net
    if not isinstance(vit, VisionTransformer) or vit.cls_token is None or type(vit.blocks[-1].attn) is not Attention:
        return None
    layer, caught = vit.blocks[-1].attn, list[Tensor]()
    with layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])):
        backbone.eval()(images)
        q, k, _ = layer.qkv(caught[0]).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # B H N d each
        scores = layer.q_norm(q[:, :, :1]) * layer.scale @ layer.k_norm(k).mT  # B H 1 N
    rows = images.shape[-2] // vit.patch_embed.patch_size[0]
    patches: Tensor = scores.float().softmax(-1)[:, :, 0, vit.num_prefix_tokens :]
    grid: Tensor = patches.unflatten(2, (rows, -1))
    return grid


def similarity(backbone: Backbone, images: Tensor) -> Tensor:
    """B C H W -> B h w, the cosine of every place of the last feature map with the mean of all places."""
    features = backbone.eval().maps(images)[-1].float()  # B D h w
    return F.cosine_similarity(features, features.mean((2, 3), keepdim=True), dim=1)


def heated(maps: Tensor, pixels: Pixels, names: Sequence[str]) -> list[tuple[Pixels, str]]:
    """Each image, then the image under each of its maps (B M h w), from dark where least to bright where most."""
    grown = F.interpolate(maps.float().cpu(), pixels.shape[1:3], mode="bilinear")
    low, high = grown.amin((2, 3), keepdim=True), grown.amax((2, 3), keepdim=True)
    heat = matplotlib.colormaps["inferno"](((grown - low) / (high - low).clamp(min=1e-12)).numpy())[..., :3] * 255
    rows = []
    for at in range(len(maps)):
        gray = pixels[at].mean(-1, keepdims=True)
        rows.append((pixels[at], "image"))
        rows += [((0.5 * gray + 0.5 * heat[at, m]).astype(np.uint8), name) for m, name in enumerate(names)]
    return rows


def restored(backbone: Backbone, images: Tensor) -> Pixels:
    """B C H W, uint8 or normalised -> B H W 3 uint8 to be looked at; of other than three channels the first, gray."""
    if images.dtype != torch.uint8:
        images = ((images * backbone.std + backbone.mean) * 255).round().clamp(0, 255).to(torch.uint8)
    shown = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    return shown.permute(0, 2, 3, 1).cpu().numpy()
