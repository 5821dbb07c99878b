"""MAE: hide most patches, encode the rest, reconstruct what was hidden (arXiv:2111.06377)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.objective import Objective, View, noise

from .tokens import begin, encode, patchify, pick, plain_vit, shown, spread, unpatchify, where


class MAE(Objective):
    """Masked image modelling on timm's plain ViTs; the encoder runs on the visible patches alone.

    mask: share of the patches that is hidden
    width: features of the decoder
    depth: blocks of the decoder
    heads: attention heads of the decoder
    """

    sees = {"image": View("mae")}
    takes = "plain timm ViTs"
    good_for = "ViTs to fine-tune, at half the cost; as they are, its features are weak"
    divides = True
    collapses = False  # pixels must be told apart; a low rank early on recovers (measured)

    def __init__(
        self, backbone: Backbone, *, mask: float = 0.75, width: int = 192, depth: int = 2, heads: int = 3
    ) -> None:
        super().__init__()
        vit = plain_vit(backbone, "mae")
        if not 0 < mask < 1 or vit.patch_embed.num_patches < 2:
            raise ConfigError(f"objective mae cannot hide mask={mask} of {vit.patch_embed.num_patches} patches")
        self.backbone, self.mask = backbone, mask
        self.patch: int = vit.patch_embed.patch_size[0]
        self.bridge = nn.Linear(backbone.dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Buffer(where(vit.patch_embed.grid_size, width), persistent=False)
        self.decoder = nn.Sequential(*[Block(width, heads) for _ in range(depth)], nn.LayerNorm(width))
        self.pixels = nn.Linear(width, backbone.channels * self.patch**2)
        for part in (self.bridge, self.decoder, self.pixels):
            spread(part)
        if not backbone.loaded.loaded:
            begin(vit)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean squared error of the hidden patches, each normalised by its own mean and variance."""
        patches, hidden, guess = self.guess(batch)
        return {"loss": F.mse_loss(guess.float(), standardised(shown(self.backbone, patches, hidden)))}

    def guess(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """All patches B N P as they were loaded, the places of the hidden ones B H, and the guess at these B H P."""
        patches = patchify(batch["image"], self.patch)  # B N P
        order = noise(batch["draw"], patches.shape[1]).argsort(1)  # B N, a random order of the patches
        keep = min(max(1, round(order.shape[1] * (1 - self.mask))), order.shape[1] - 1)
        seen, hidden = order[:, :keep], order[:, keep:]

        tokens = self.bridge(encode(self.backbone, patches, seen))
        prefix, tokens = tokens.split([tokens.shape[1] - keep, keep], 1)  # B 1 D, the class token, and B K D
        canvas = self.mask_token.to(tokens.dtype).expand(*order.shape, -1)
        canvas = canvas.scatter(1, seen[..., None].expand_as(tokens), tokens) + self.position
        decoded = self.decoder(torch.cat([prefix, canvas], 1))[:, prefix.shape[1] :]
        return patches, hidden, self.pixels(pick(decoded, hidden))

    def pictures(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What it saw, and what it made of that; the mean and contrast of a hidden patch, never guessed, are given."""
        _, hidden, guess = self.guess(batch)
        patches = patchify(self.backbone.normalise(batch["image"]), self.patch)
        truth = pick(patches, hidden)
        guess = guess.float() * (truth.var(-1, keepdim=True) + 1e-6).sqrt() + truth.mean(-1, keepdim=True)
        places = hidden[..., None].expand_as(guess)
        made = {"seen": patches.scatter(1, places, 0.0), "rebuilt": patches.scatter(1, places, guess)}
        return {name: unpatchify(x, batch["image"].shape[-2], self.patch) for name, x in made.items()}


def standardised(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Each patch less its mean, over the root of its (unbiased) variance + eps."""
    unbiased = 1 - 1 / patches.shape[-1]
    scale = patches.new_full(patches.shape[-1:], unbiased**0.5)
    return F.layer_norm(patches, scale.shape, scale, eps=eps * unbiased)
