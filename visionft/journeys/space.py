"""What a search may try: `1e-5..1e-3` is a range, `full|layerwise` are choices, by the keys of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from visionft import config
from visionft.errors import ConfigError
from visionft.recipe import Finetune
from visionft.tasks.complete import complete

FIXED = (
    "data", "size", "channels", "white", "bad", "cache", "out", "seed", "test", "val", "by_group", "metric",
    "folds", "refit", "average", "decide", "coverage", "flips",
)  # fmt: skip  # what decides who is compared with whom, or comes after training


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included."""

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether ten times as much is as far everywhere."""
        return self.low > 0 and self.high >= 10 * self.low

    @property
    def samples(self) -> list[Any]:
        """What shows whether a recipe takes such values."""
        return [int(x) if self.whole else x for x in (self.low, self.high)]

    def draw(self, trial: Any, name: str) -> Any:
        """A value for an Optuna trial."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of some values, which Optuna knows by how they are written."""

    samples: list[Any]

    def draw(self, trial: Any, name: str) -> Any:
        """A value for an Optuna trial."""
        written = {_written(value): value for value in self.samples}
        return written[trial.suggest_categorical(name, list(written))]


def space(over: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """Read what to try, by dotted keys. Raises ConfigError for what a recipe like `base` would not take."""
    found = {name: _read(name, value) for name, value in _flat(over)}
    if not found:
        raise ConfigError("over is empty: say what to try, e.g. over.optim.lr=1e-5..1e-3")
    for name, tried in found.items():
        if name.split(".")[0] in FIXED:
            raise ConfigError(f"over.{name} would compare runs that cannot be compared, or act after training only")
        for value in tried.samples:
            complete(config.load(Finetune, base, {name: value}))
    return found


def _flat(over: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in over.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows


def _read(name: str, value: Any) -> Range | Choice:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 1:
        return Choice(list(value))
    text = str(value)
    if "|" in text:
        return Choice([yaml.safe_load(part) for part in text.split("|")])
    said = re.fullmatch(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*", text)
    try:
        low, high = (float(word) for word in (said[1], said[2])) if said else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if said is None or low >= high:
        raise ConfigError(f"over.{name}={value} is no range like 1e-5..1e-3 and no choices like full|layerwise")
    return Range(low, high, whole=all(re.fullmatch(r"[+-]?\d+", word) for word in (said[1], said[2])))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
