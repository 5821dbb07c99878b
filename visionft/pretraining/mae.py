"""MAE: hide most patches, encode the rest, reconstruct what was hidden (arXiv:2111.06377)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.objective import Objective, View, noise


class MAE(Objective):
    """Masked image modelling on timm's plain ViTs; the encoder runs on the visible patches alone.

    mask: share of the patches that is hidden
    width: features of the decoder
    depth: blocks of the decoder
    heads: attention heads of the decoder
    """

    sees = {"image": View("mae")}
    collapses = False  # pixels must be told apart; a low rank early on recovers (measured)

    def __init__(
        self, backbone: Backbone, *, mask: float = 0.75, width: int = 192, depth: int = 2, heads: int = 3
    ) -> None:
        super().__init__()
        vit = backbone.net
        if not isinstance(vit, VisionTransformer) or vit.pos_embed is None:
            raise ConfigError(
                f"objective mae needs a plain timm ViT, not {backbone.name}; simclr and dino take any model"
            )
        self.backbone, self.mask = backbone, mask
        self.patch: int = vit.patch_embed.patch_size[0]
        self.embed = nn.Linear(backbone.dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, vit.patch_embed.num_patches, width))
        self.decoder = nn.Sequential(*[Block(width, heads) for _ in range(depth)], nn.LayerNorm(width))
        self.pixels = nn.Linear(width, backbone.channels * self.patch**2)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean squared error of the hidden patches, each normalised by its own mean and variance."""
        patches = patchify(self.backbone.normalise(batch["image"]), self.patch)  # B N P
        target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()

        order = noise(batch["draw"], patches.shape[1]).argsort(1)  # B N, a random order of the patches
        seen = order[:, : max(1, round(order.shape[1] * (1 - self.mask)))]  # B K

        tokens = self.embed(self.encode(patches, seen))  # B K D
        canvas = self.mask_token.to(tokens.dtype).expand(*target.shape[:2], -1)
        canvas = canvas.scatter(1, seen[..., None].expand_as(tokens), tokens)
        guess = self.pixels(self.decoder(canvas + self.position))  # B N P

        hidden = torch.ones_like(order, dtype=torch.float32).scatter(1, seen, 0.0)
        error = (guess.float() - target).square().mean(-1)
        return {"loss": (error * hidden).sum() / hidden.sum()}

    def encode(self, patches: Tensor, seen: Tensor) -> Tensor:
        """B N P, B K -> B K D: embed and encode the visible patches alone, which is where MAE's speed comes from."""
        vit = self.backbone.net
        prefix = [t for t in (vit.cls_token, vit.reg_token) if t is not None]
        position = vit.pos_embed  # 1 (prefix +) N D
        start = torch.cat(prefix, 1) if prefix else position[:, :0]
        if not vit.no_embed_class:
            start = start + position[:, : vit.num_prefix_tokens]
            position = position[:, vit.num_prefix_tokens :]

        visible = patches.gather(1, seen[..., None].expand(-1, -1, patches.shape[-1]))  # B K P
        kernel = vit.patch_embed.proj
        x = vit.patch_embed.norm(F.linear(visible, kernel.weight.flatten(1), kernel.bias))
        x = x + position.expand(len(x), -1, -1).gather(1, seen[..., None].expand(-1, -1, position.shape[-1]))
        x = torch.cat([start.expand(len(x), -1, -1).to(x.dtype), x], 1)
        return vit.norm(vit.blocks(vit.norm_pre(x)))[:, start.shape[1] :]  # type: ignore[no-any-return]


def patchify(images: Tensor, size: int) -> Tensor:
    """B C H W -> B N C*size*size, in the order of a convolution's weights."""
    return F.unfold(images, size, stride=size).transpose(1, 2)
