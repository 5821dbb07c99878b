"""What can be trained: objectives, what they are good for, which backbones they take, what an image costs in memory."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from . import config
from .backbone import Backbone
from .data.records import Row, Table
from .data.scan import scan
from .data.targets import Number
from .data.views import Views, batches
from .errors import ConfigError, VisionftError, first_line
from .objective import OBJECTIVES, Objective, find, options, registered
from .plan import activations
from .precision import Precision


@dataclass(frozen=True)
class Entry:
    """One objective, as `visionft objectives` shows it."""

    name: str
    what: str = ""  # the first sentence of its file, with the paper
    takes: str = ""
    good_for: str = ""
    options: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> default, meaning
    memory: float | None = None  # bytes that autograd keeps for one image; None when it cannot take the backbone
    why: str = ""  # it cannot


def entry(name: str, backbone: Backbone, size: int) -> Entry:
    """Look an objective up and try it on a copy of this backbone. Raises ConfigError for an unknown name."""
    try:
        cls, _ = find(name)
    except ConfigError as error:
        if name not in registered():
            raise
        return Entry(name, why=str(error))  # a broken plug-in hides no other row
    what = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").split("\n")[0]
    memory, why = None, ""
    try:
        memory = per_image(cls, backbone, size)
    except Exception as error:  # whatever a plug-in or a timm model raises: the other rows are still true
        why = str(error) if isinstance(error, VisionftError) else first_line(error)
    return Entry(name, what, cls.takes, cls.good_for, options(cls), memory, why)


def per_image(cls: type[Objective], backbone: Backbone, size: int) -> float:
    """Bytes that one more image makes autograd keep between forward and backward, in fp32."""
    torch.manual_seed(0)
    needed = {"classes": 2, "targets": [Number("number").facts()]}
    model: Objective = cls(copy.deepcopy(backbone), **{k: v for k, v in needed.items() if k in config.options(cls)})
    few, more = (_kept(model, size, count) for count in (2, 4))
    return (more - few) / 2


def _kept(model: Objective, size: int, count: int) -> float:
    channels = model.backbone.channels
    pixels = [*np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)]
    sides = {key: model.backbone.side(size * view.share) for key, view in model.sees.items()}
    table = scan(Table.of(pixels), channels=channels).table
    rows = (Row(at, {"number": str(at)}) for at in range(count))
    table = replace(table, records=tuple(replace(r, row=row) for r, row in zip(table, rows, strict=True)))
    columns = model.columns(pixels, table, size, store=False)
    data = Views(pixels, model.sees, sides, labels=np.arange(count) % 2, columns=columns, channels=channels)
    return activations(model, next(batches(data, count)), Precision())


def lines(entries: Sequence[Entry], backbone: str, size: int, *, whole: bool) -> list[str]:
    """The table as text; with `whole`, the options too."""
    wide = max(len(e.name) for e in entries)
    out = [f"MiB: what autograd keeps for one image of {size} px in {backbone}, in fp32, beside the weights", ""]
    for e in entries:
        cost = "-" if e.memory is None else f"{e.memory / 2**20:.1f}"
        out += [f"{e.name:<{wide}} {cost:>6} MiB  {e.what}"]
        more = {"takes": e.takes, "good for": e.good_for, "not here:": e.why}
        out += [f"{'':<{wide + 12}}{key} {text}" for key, text in more.items() if text]
        if whole:
            out += [
                "",
                *(f"  objective.{name} = {default}  {meaning}" for name, (default, meaning) in e.options.items()),
            ]
    return out


def objectives_help() -> list[str]:
    """What `pretrain` can train, with options: read from constructors and their docstrings."""
    return _options("objective", (name for name, path in OBJECTIVES.items() if "pretraining" in path))


def tasks_help() -> list[str]:
    """What `finetune` can train, with options."""
    return _options("task", (name for name, path in OBJECTIVES.items() if "pretraining" not in path))


def _options(word: str, names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        cls, _ = find(name)
        about = (f"  {word}.{key} = {default}  {meaning}" for key, (default, meaning) in options(cls).items())
        found += ["", f"{word}={name}: {(cls.__doc__ or '').splitlines()[0]}", *about]
    return found[1:]
