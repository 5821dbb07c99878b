"""SimMIM: hide squares of an image from any network and let one layer guess their pixels (arXiv:2111.09886)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.objective import Objective, View, exactly, noise

from .tokens import encode_hidden, unused


class SimMIM(Objective):
    """Masked image modelling on any timm model whose last features have places: ResNet, ConvNeXt, Swin, ViT.

    In a plain ViT a mask token replaces the hidden patches. Other stems look through windows that overlap, where no
    embedding belongs to one square; but all of them read pixels, so there the hidden pixels take a learned colour.

    mask: share of the image that is hidden
    unit: side of the hidden squares, pixels; null takes 32, or less in small images, to leave four by four
    """

    sees = {"image": View("mae")}
    takes = "any timm model with feature maps"
    good_for = "networks to fine-tune, small batches; convolutions, too, learn what fits where"
    divides = True
    collapses = False  # pixels must be told apart

    def __init__(self, backbone: Backbone, *, mask: float = 0.6, unit: int | None = None) -> None:
        super().__init__()
        net = backbone.net
        self.backbone, self.mask, self.unit = backbone, mask, unit
        self.plain = isinstance(net, VisionTransformer)
        self.stride: int = net.feature_info[-1]["reduction"]
        self.cell = self.stride if self.plain else 8
        self.width: int = net.num_features
        shape = (self.width,) if self.plain else (backbone.channels, 1, 1)
        self.blank = nn.Parameter(torch.zeros(shape))  # mask token or colour; 0 is the mean of all pixels
        self.head = nn.Conv2d(self.width, backbone.channels * self.stride**2, 1)
        if not 0 < mask < 1:
            raise ConfigError(f"objective simmim cannot hide mask={mask} of an image; 0.6 hides three fifths")
        if backbone.size:
            self.squares(backbone.size)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean absolute error of the hidden pixels."""
        pixels = self.backbone.normalise(batch["image"])  # B C H W
        hidden = self.hide(batch["draw"], pixels.shape[-1])  # B h w
        last = self.encode(pixels, hidden)
        guess = self.guess(last, pixels.shape[-1])
        with exactly(guess):
            error = (guess.float() - pixels).abs().mean(1)[spread(hidden, pixels.shape[-1])]
            return {"loss": error.mean() + unused(self.backbone.net, last)}

    def pictures(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What it saw, and what it made of that."""
        pixels = self.backbone.normalise(batch["image"])
        hidden = self.hide(batch["draw"], pixels.shape[-1])
        guess = self.guess(self.encode(pixels, hidden), pixels.shape[-1]).float()
        covered = spread(hidden, pixels.shape[-1])[:, None]
        return {"seen": pixels.masked_fill(covered, 0.0), "rebuilt": torch.where(covered, guess, pixels)}

    def hide(self, draw: Tensor, size: int) -> Tensor:
        """B -> B h w bool, the hidden squares of images of this size."""
        side = size // self.squares(size)
        order = noise(draw, side**2).argsort(1)
        chosen = order[:, : min(max(1, round(self.mask * side**2)), side**2 - 1)]
        return torch.zeros_like(order, dtype=torch.bool).scatter(1, chosen, True).unflatten(1, (side, side))  # type: ignore[no-any-return]

    def encode(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """B C H W, B h w bool -> the last features, in the network's layout; what is hidden has no part in them."""
        if self.plain:
            patches = spread(hidden, pixels.shape[-1] // self.cell).flatten(1)
            return encode_hidden(self.backbone.net, pixels, patches, self.blank)
        masked = torch.where(spread(hidden, pixels.shape[-1])[:, None], self.blank, pixels)
        return self.backbone.net.forward_features(masked)  # type: ignore[no-any-return]

    def guess(self, last: Tensor, size: int) -> Tensor:
        """The last features (behind the last norm or convolution, unlike `backbone.maps`) -> B C H W."""
        side = size // self.stride
        if last.ndim == 3:  # B N D
            last = last[:, -(side**2) :].unflatten(1, (side, side))
        if last.shape[1] != self.width:  # B h w D
            last = last.movedim(-1, 1)
        return F.pixel_shuffle(self.head(last), self.stride)

    def squares(self, side: int) -> int:
        """Side of the hidden squares in an image of this side; ConfigError if they do not fill it."""
        fitting = [u for u in range(self.cell, 33, self.cell) if side % u == 0 and side >= 4 * u]
        unit = self.unit or max(fitting, default=self.cell)
        step = math.lcm(unit, self.stride, self.cell)
        if side % step or side < 2 * unit:
            below = side // step * step
            sizes = " or ".join(f"size={x}" for x in (below, below + step) if x >= 2 * unit) or f"size={2 * unit}"
            raise ConfigError(
                f"objective simmim cannot fill size={side} with hidden squares of {unit} px on {self.backbone.name}, "
                f"stride {self.stride}; {sizes} works"
            )
        return unit


def spread(squares: Tensor, size: int) -> Tensor:
    """B h w -> B size size."""
    times = size // squares.shape[-1]
    return squares.repeat_interleave(times, 1).repeat_interleave(times, 2)
