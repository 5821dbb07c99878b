"""One face for every timm model: images in, features out, and an ordering of its layers from stem to head."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models import group_parameters
from torch import Tensor, nn

from . import weights
from .config import suggest
from .errors import ConfigError, WeightsError


class Backbone(nn.Module):
    """A timm model without its classifier, with the normalisation its weights were trained for.

    `size` fixes the position embeddings of models that have them; `mean` and `std` are in [0, 1] units of the pixel.
    uint8 images are pixels and are normalised here; floating-point images are taken as normalised already.
    """

    net: Any  # timm models carry attributes that nn.Module's type does not know
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        channels: int = 3,
        size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = suggest(name, timm.list_models(), "; timm.list_models('*resnet*') lists what it has")
            raise WeightsError(f"timm has no model {name!r}{near}")
        self.name, self.channels, self.size = name, channels, size
        self.net = _create(name, channels, size)
        _whole_patches(name, self.net, size)
        self.dim: int = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        cfg = self.net.pretrained_cfg
        self.register_buffer("mean", _per_channel(mean or cfg["mean"], channels), persistent=False)
        self.register_buffer("std", _per_channel(std or cfg["std"], channels), persistent=False)
        self.loaded = weights.Loaded("random initialisation", ())
        self.adapter: Any = None  # what learns beside the network: see visionft.adapters

    def replace(self, state: Mapping[str, Tensor]) -> None:
        """Begin anew with a plain network of these weights: no adapter is left."""
        device, training = self.mean.device, self.training
        self.net, self.adapter = _create(self.name, self.channels, self.size), None
        self.net.load_state_dict(state)
        self.net.to(device).train(training)

    def forward(self, images: Tensor) -> Tensor:
        """B C H W -> B D, the pooled features that heads and objectives consume."""
        return self.net(self.normalise(images))  # type: ignore[no-any-return]

    def maps(self, images: Tensor, n: int | list[int] = 1) -> list[Tensor]:
        """B C H W -> the last n feature maps, or those at these places, each B C' h w, finest first."""
        out: list[Tensor] = self.net.forward_intermediates(
            self.normalise(images), indices=n, output_fmt="NCHW", intermediates_only=True
        )
        return out

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 pixels -> what the weights expect; floating-point images pass unchanged."""
        if images.dtype != torch.uint8:
            return images
        return images.float().div_(255).sub_(self.mean).div_(self.std)

    def depth_of(self) -> dict[str, int]:
        """Layer of each parameter, 0 at the stem; what layer-wise rates and freezing read."""
        groups = group_parameters(self.net, self.net.group_matcher(), reverse=True)
        return {f"net.{name}": depth for name, depth in groups.items()}

    def stage_of(self) -> dict[str, int]:
        """Stage of each parameter: a level of resolution, 0 with the stem; quarters of a net that has one level."""
        depth = self.depth_of()
        ends: dict[int, int] = {}  # reduction -> depth at which this level ends
        for level in self.net.feature_info:
            inside = [d for name, d in depth.items() if name.startswith(f"net.{level['module']}.")]
            if inside:
                ends[level["reduction"]] = max(inside)
        bounds = sorted(ends.values())
        if len(bounds) < 2:
            top = max(depth.values())
            bounds = [top * quarter // 4 for quarter in (1, 2, 3, 4)]
        return {name: min(bisect.bisect_left(bounds, d), len(bounds) - 1) for name, d in depth.items()}

    def side(self, pixels: float) -> int:
        """The nearest image side that this model can take (a multiple of the patch, of 8 for convolutions)."""
        step = self.patch or 8
        return max(step, round(pixels / step) * step)

    @property
    def patch(self) -> int | None:
        """Pixels along a side of the patches that tile an image without overlap; None where none do."""
        embed = getattr(self.net, "patch_embed", None)
        patch, stem = getattr(embed, "patch_size", None), getattr(embed, "proj", None)
        if patch is None or (isinstance(stem, nn.Conv2d) and stem.stride != stem.kernel_size):
            return None  # windows that overlap fit any side
        return int(patch[0] if isinstance(patch, (tuple, list)) else patch)

    def spec(self) -> dict[str, Any]:
        """What `visionft.backbones` needs to build this backbone again."""
        flat = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        adapter = {"adapter": self.adapter.spec} if self.adapter is not None else {}
        return {"name": self.name, "channels": self.channels, "size": self.size, **flat, **adapter}


def _create(name: str, channels: int, size: int | None) -> Any:
    common: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    fixed = {} if size is None else {"img_size": size}
    for flexible in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(name, **common, **fixed, **flexible)
        except TypeError:  # the model's constructor has no such option
            continue
    return timm.create_model(name, **common)  # takes any size anyway


def _whole_patches(name: str, net: Any, size: int | None) -> None:
    """Raise ConfigError unless the image is tiled by the patches of a transformer that pads nothing."""
    embed = getattr(net, "patch_embed", None)
    if size is None or not isinstance(embed, PatchEmbed) or embed.dynamic_img_pad:
        return
    patch = embed.patch_size[0]
    if size % patch:
        below, above = size // patch * patch, -(-size // patch) * patch
        near = f"the nearest are size={below} and size={above}" if below else f"the smallest is size={patch}"
        raise ConfigError(f"size={size} is no multiple of {patch}, the patch of {name}; {near}")


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    filled = list(values) if len(values) == channels else [sum(values) / len(values)] * channels
    return torch.tensor(filled).view(1, channels, 1, 1)
