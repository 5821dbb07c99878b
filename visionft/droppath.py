"""Stochastic depth: while training, blocks are skipped at random, the deeper the more often (arXiv:1603.09382)."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import DropPath

from .errors import ConfigError


def drop_paths(backbone: Any, rate: float) -> None:
    """Let a backbone skip its last block's branches with probability `rate`, earlier ones' less, as timm deals it.

    Weights stay as they are; nothing is skipped in eval mode, in which frozen blocks are, too. Raises ConfigError for
    a network that timm builds without such branches.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"drop_path={rate} makes no sense: it must be at least 0 and below 1")
    if not rate:
        return
    for name, path in _dealt(backbone.name, rate).items():
        *above, last = name.split(".")
        setattr(backbone.net.get_submodule(".".join(above)), last, path)


def _dealt(name: str, rate: float) -> dict[str, DropPath]:
    """Where timm puts drop paths, and with which rates: read off a twin that it builds with them."""
    with torch.random.fork_rng(devices=[]):  # the twin's weights must not shift what is drawn after it
        try:
            twin = timm.create_model(name, drop_path_rate=rate)
        except TypeError:
            twin = torch.nn.Identity()
    found = {place: m for place, m in twin.named_modules() if isinstance(m, DropPath) and m.drop_prob}
    if not found:
        raise ConfigError(f"{name} has no branches that could be dropped; leave drop_path=0, or try dropout=0.2")
    return found
