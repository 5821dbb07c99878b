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
        if not 0 < mask < 1 or vit.patch_embed.num_patches < 2:
            raise ConfigError(f"objective mae cannot hide mask={mask} of {vit.patch_embed.num_patches} patches")
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
        order = noise(batch["draw"], patches.shape[1]).argsort(1)  # B N, a random order of the patches
        keep = min(max(1, round(order.shape[1] * (1 - self.mask))), order.shape[1] - 1)
        seen, hidden = order[:, :keep], order[:, keep:]

        tokens = self.embed(self.encode(patches, seen))  # B K D
        canvas = self.mask_token.to(tokens.dtype).expand(*order.shape, -1)
        canvas = canvas.scatter(1, seen[..., None].expand_as(tokens), tokens)
        guess = self.pixels(pick(self.decoder(canvas + self.position), hidden))  # B N-K P

        return {"loss": F.mse_loss(guess.float(), standardised(pick(patches, hidden)))}

    def encode(self, patches: Tensor, seen: Tensor) -> Tensor:
        """B N P, B K -> B K D: embed and encode the visible patches alone, which is where MAE's speed comes from."""
        vit = self.backbone.net
        prefix = [t for t in (vit.cls_token, vit.reg_token) if t is not None]
        position = vit.pos_embed  # 1 (prefix +) N D
        start = torch.cat(prefix, 1) if prefix else position[:, :0]
        if not vit.no_embed_class:
            start = start + position[:, : vit.num_prefix_tokens]
            position = position[:, vit.num_prefix_tokens :]

        kernel = vit.patch_embed.proj
        x = vit.patch_embed.norm(F.linear(pick(patches, seen), kernel.weight.flatten(1), kernel.bias))
        x = x + pick(position.expand(len(x), -1, -1), seen)
        x = torch.cat([start.expand(len(x), -1, -1).to(x.dtype), x], 1)
        return vit.norm(vit.blocks(vit.norm_pre(x)))[:, start.shape[1] :]  # type: ignore[no-any-return]


def patchify(images: Tensor, size: int) -> Tensor:
    """B C H W -> B N C*size*size, in the order of a convolution's weights."""
    grid = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # B C h p w p
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def pick(tokens: Tensor, places: Tensor) -> Tensor:
    """B N D, B K -> B K D, the tokens at these places."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def standardised(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Each patch less its mean, over the root of its (unbiased) variance + eps."""
    unbiased = 1 - 1 / patches.shape[-1]
    scale = patches.new_full(patches.shape[-1:], unbiased**0.5)
    return F.layer_norm(patches, scale.shape, scale, eps=eps * unbiased)
