"""Where adapters go in a timm model: its layers, its MLPs, its blocks, its attention."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.models import group_parameters
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from visionft.errors import ConfigError
from visionft.folding import idle

LAYERS = (nn.Linear, nn.Conv2d)


def layers(net: Any, pattern: str = "auto") -> list[str]:
    """Names of Linear and Conv2d layers that match a pattern; auto takes all but the stem and grouped convolutions.

    These are qkv, proj and MLP of a transformer, and whatever mixes channels in a convolutional net. Raises
    ConfigError when none matches.
    """
    all_layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, LAYERS)}
    if pattern != "auto":
        return _matching(all_layers, pattern)
    stem = next((name for name, layer in all_layers.items() if isinstance(layer, nn.Conv2d)), None)
    return [name for name, layer in all_layers.items() if name != stem and getattr(layer, "groups", 1) == 1]


def shifted(net: Any, pattern: str = "auto") -> list[str]:
    """Names of Linear, Conv2d and norms with weight and bias, which can take a scale and a shift and merge it."""
    able = {
        name: module for name, module in net.named_modules()
        if {"weight", "bias"} <= {leaf for leaf, p in module.named_parameters(recurse=False) if p is not None}
    }  # fmt: skip
    return [*able] if pattern == "auto" else _matching(able, pattern)


def depths(net: Any) -> dict[str, int]:
    """The layer of each module as timm counts them, 0 at the stem; the last one of those that it holds."""
    found: dict[str, int] = {}
    for name, depth in group_parameters(net, net.group_matcher(), reverse=True).items():
        for above in itertools.accumulate(name.split(".")[:-1], lambda *path: ".".join(path)):
            found[above] = max(depth, found.get(above, 0))
    return found


def late(names: Sequence[str], depth: Mapping[str, int], share: float) -> set[str]:
    """Those of these modules that lie in the last share, by layers; at least one layer."""
    layers = sorted({depth[name] for name in names})
    first = layers[-max(1, round(share * len(layers)))]
    return {name for name in names if depth[name] >= first}


def mlps(net: Any) -> dict[str, int]:
    """Names of MLPs that work on channels-last tokens, and their width."""
    return {
        name: module.fc1.in_features for name, module in net.named_modules()
        if isinstance(getattr(module, "fc1", None), nn.Linear) and isinstance(getattr(module, "fc2", None), nn.Linear)
        and module.fc1.in_features == module.fc2.out_features
    }  # fmt: skip


def blocks(net: Any) -> dict[str, int]:
    """Names of the blocks of a convolutional net, as timm groups its layers, and the channels that they give."""
    groups: dict[int, list[str]] = {}
    for name, depth in group_parameters(net, net.group_matcher(), reverse=True).items():
        groups.setdefault(depth, []).append(name)
    prefixes = (_prefix(names) for names in groups.values())
    named = [prefix for prefix in prefixes if prefix and any(True for _ in net.get_submodule(prefix).children())]
    return _channels(net, named)


def attentions(net: Any) -> list[str]:
    """Names of attention layers that call torch's fused attention; ConfigError for other networks than plain ViTs."""
    plain(net)
    return [f"blocks.{i}.attn" for i, block in enumerate(net.blocks) if block.attn.fused_attn]


def plain(net: Any) -> None:
    """Raise ConfigError unless this is a ViT whose blocks take any number of tokens."""
    if not isinstance(net, VisionTransformer):
        kind = type(net).__name__
        raise ConfigError(f"prompts and prefixes are tokens of a plain ViT, not of {kind}; adapter=lora fits, or ssf")


def _matching(modules: dict[str, Any], pattern: str) -> list[str]:
    found = [name for name in modules if re.fullmatch(pattern, name)]
    if not found:
        some = ", ".join([*modules][:3])
        raise ConfigError(f"no layer matches {pattern!r}; there are {len(modules)}, such as {some}")
    return found


def _prefix(names: list[str]) -> str:
    parts = [name.split(".")[:-1] for name in names]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)


@torch.no_grad()
def _channels(net: Any, names: list[str]) -> dict[str, int]:
    """Channels of what these modules give, seen by passing a small image; those that give no B C h w are left out."""
    found: dict[str, int] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, given: Any, y: Any) -> None:
            if isinstance(y, torch.Tensor) and y.ndim == 4:
                found[name] = y.shape[1]

        return note

    hooks = [net.get_submodule(name).register_forward_hook(noting(name)) for name in names]
    p = next(net.parameters())
    into = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d)).in_channels
    try:
        with idle(net):
            net(torch.zeros(1, into, 64, 64, device=p.device, dtype=p.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in names if name in found}
