"""Names that stand for code: our own, those that installed packages add (entry points), and import paths."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from . import config
from .errors import ConfigError


def known(ours: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Every name with what it stands for; those of the entry points `visionft.KINDs` do not hide ours."""
    return {**ours, **{p.name: p.value for p in entry_points(group=f"visionft.{kind}s") if p.name not in ours}}


def resolve(choice: Any, ours: Mapping[str, Any], kind: str) -> Any:
    """What a name, an import path `module:attribute` or the thing itself stands for.

    Raises ConfigError for an unknown name, with the nearest valid one.
    """
    if callable(choice):
        return choice
    table = known(ours, kind)
    found = table.get(str(choice), str(choice))
    if callable(found):
        return found
    if ":" not in found:
        raise ConfigError(f"no {kind} is called {choice!r}{config.suggest(str(choice), table)}")
    return config.imported(found, kind)
