"""From `adapter=lora` to parts at work in a network, and back to a plain one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from visionft import config, plugins
from visionft.errors import ConfigError

from . import targets
from .bottleneck import Bottleneck
from .live import Live, Part, enliven
from .lora import LoRA
from .prompts import Prefix, Prompts
from .quantised import Bits, quantise
from .ssf import SSF

Parts = Iterator[tuple[str, Part]]


def lora(
    net: Any,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    rslora: bool = True,
    dora: bool = False,
    layers: str = "auto",
) -> Parts:
    """Low-rank changes of Linear and Conv2d weights.

    rank: of the change
    alpha: the change is scaled by alpha / sqrt(rank), or alpha / rank without rslora
    dropout: of what the thin factors see
    rslora: keep the size of the change alike for all ranks
    dora: learn the length of each row of the weights apart
    layers: a pattern of layer names; auto takes all but the stem and grouped convolutions
    """
    for name in targets.layers(net, layers):
        yield name, LoRA(net.get_submodule(name), rank=rank, alpha=alpha, dropout=dropout, rslora=rslora, dora=dora)


def ssf(net: Any, *, layers: str = "auto") -> Parts:
    """A scale and a shift of every channel behind layers and norms.

    layers: a pattern of names; auto takes all that have a weight and a bias
    """
    for name in targets.shifted(net, layers):
        yield name, SSF(net.get_submodule(name))


def bottleneck(net: Any, *, width: int = 16, scale: float = 1.0) -> Parts:
    """Narrow detours around MLPs, or behind the blocks of convolutional nets.

    width: of the detour
    scale: of what it adds
    """
    spatial = not targets.mlps(net)
    for name, channels in (targets.blocks(net) if spatial else targets.mlps(net)).items():
        yield name, Bottleneck(channels, width, scale=scale, spatial=spatial, behind=spatial)


def prompts(net: Any, *, count: int = 8) -> Parts:
    """Learned tokens in every block of a ViT.

    count: tokens a block
    """
    targets.plain(net)
    for i in range(len(net.blocks)):
        yield f"blocks.{i}", Prompts(net.embed_dim, count)


def prefix(net: Any, *, count: int = 8) -> Parts:
    """Learned keys and values in every attention of a ViT.

    count: pairs a head
    """
    for name in targets.attentions(net):
        attention = net.get_submodule(name)
        yield name, Prefix(attention.num_heads, attention.head_dim, count)


ADAPTERS: dict[str, Callable[..., Parts]] = {
    "lora": lora, "ssf": ssf, "bottleneck": bottleneck, "prompts": prompts, "prefix": prefix,
}  # fmt: skip
COUNTS = {"rank", "width", "count"}
LAST = 1.0  # share of the layers; the last third told 1.8 points fewer solar cells right (-0.1 to 3.9)


def find(name: Any) -> Callable[..., Parts]:
    """Resolve a name, an import path `module:function`, an entry point of `visionft.adapters`, or the function itself.

    Raises ConfigError for what is none of them.
    """
    return plugins.resolve(name, ADAPTERS, "adapter")  # type: ignore[no-any-return]


def check(choice: Any) -> tuple[str, dict[str, Any], Bits | None, float]:
    """The name of an adapter, all its options, how the base is kept and the share of layers that is adapted.

    Raises ConfigError; no net needed.
    """
    name, options = config.named(choice, "adapter")
    make = find(name)
    base = options.pop("base", None)
    if base not in (None, "int8", "nf4"):
        raise ConfigError(f"adapter.base={base} is no way to keep weights; int8 and nf4 are")
    last = options.pop("last", LAST)
    if isinstance(last, bool) or not isinstance(last, (int, float)) or not 0 < last <= 1:
        raise ConfigError(f"adapter.last={last} makes no sense: it is the share of layers, above 0 and at most 1")
    plain = {key: option.default for key, option in config.options(make).items()}
    made = plain | config.bind(make, options, "adapter")
    for key in COUNTS & made.keys():
        if made[key] < 1:
            raise ConfigError(f"adapter.{key}={made[key]} makes no sense: it must be at least 1")
    path = f"{name.__module__}:{name.__qualname__}" if callable(name) else str(name)
    return path, made, base, float(last)


class Adapter(nn.Module):
    """The parts of one network, under the names of the modules that they work in."""

    def __init__(self, net: Any, choice: Any) -> None:
        super().__init__()
        name, options, base, last = check(choice)
        if any(isinstance(module, Live) for module in net.modules()):
            raise ConfigError("this network has an adapter already; merge it first")
        self.spec: dict[str, Any] = {"name": name, **options, "last": last} | ({"base": base} if base else {})
        depth = targets.depths(net) if last < 1 else {}  # before weights become codes
        if base:
            quantise(net, targets.layers(net), base)
        parts = [*find(name)(net, **options)]
        if last < 1:
            kept = targets.late([place for place, _ in parts], depth, last)
            parts = [(place, part) for place, part in parts if place in kept]
        self.merges = all(part.merges for _, part in parts)
        for place, part in parts:
            enliven(net.get_submodule(place), part)
            _nest(self, place, part)

    def parts(self) -> dict[str, Part]:
        """By the names of the modules they work in."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Part)}


def adapt(backbone: Any, choice: Any) -> None:
    """Put an adapter to work: `lora`, or a mapping with `name` and options. Raises ConfigError if it cannot."""
    backbone.adapter = Adapter(backbone.net, choice)


def merge(backbone: Any) -> None:
    """Make a backbone's adapter part of plain weights. Raises ConfigError for one that has no place there."""
    backbone.replace(merged(backbone.net))


@torch.no_grad()
def merged(net: nn.Module) -> dict[str, Tensor]:
    """The state dict of a plain network that gives what this one does. Raises ConfigError where no weights can."""
    state: dict[str, Tensor] = dict(net.state_dict())
    for name, module in net.named_modules():
        if isinstance(module, Live):
            if not module.part.merges:
                raise ConfigError(
                    f"{type(module.part).__name__.lower()} of {name} cannot become weights of a plain net"
                )
            state |= {key: getattr(module, key.rpartition(".")[2]).detach() for key in state
                      if key in (f"{name}.weight", f"{name}.bias")}  # fmt: skip
    return state


def _nest(root: nn.Module, path: str, part: nn.Module) -> None:
    *above, last = path.split(".")
    for name in above:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    for name, child in getattr(root, last, nn.Module()).named_children():
        part.add_module(name, child)  # those further in that came first
    root.add_module(last, part)
